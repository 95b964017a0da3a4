"""The portal: web pages to find, try, make and watch APIs, served by the admin listener."""
