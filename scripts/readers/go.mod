module readers

go 1.22
