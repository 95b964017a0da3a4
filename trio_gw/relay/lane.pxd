# The types of `lane.py` where it is compiled. Positions are unsigned with 64 bits: the length of a
# frame has 63 bits, and is added to a position in the buffer.

import cython

from trio_gw.relay cimport runs

cdef int _BAD, _MIDDLE, _LAST, _CONTROL, _CLOSE
cdef unsigned long long _MAX_CONTROL, _TAPPED, _UNLIMITED


cdef class Lane:
    cdef int _masked
    cdef bytes _inside, _outside, _table
    cdef unsigned long long _message, _most
    cdef public object close, ending, tap, violation, wake
    cdef public bytes held, rest
    cdef public bint finished, over
    cdef public unsigned long long extra, frames, messages, need, octets

    @cython.locals(new="unsigned long long")
    cpdef Py_ssize_t take(
        self, object data, unsigned long long at, unsigned long long size,
        unsigned long long most=*, bint counted=*
    ) except -1

    @cython.locals(
        start="unsigned long long", length="unsigned long long", before="unsigned long long",
        count="unsigned long long", messages="unsigned long long", extra="unsigned long long",
        row="unsigned long long", octets=int, shortest=int, first=int, second=int, kind=int,
        masked=int, table=bytes, inside=bytes, closing=bint, stopped=bint, rows=bint,
        big=bint, most="unsigned long long",
    )
    cdef Py_ssize_t _scan(
        self, const unsigned char *data, unsigned long long at, unsigned long long size,
        unsigned long long looks, bint counted
    ) except -1

    cdef bint _is_too_big(self, unsigned long long length, bint inside) noexcept

    cpdef unsigned long long begun(self) noexcept

    cpdef unsigned long long announced(self) noexcept

    cdef Py_ssize_t _take_close(
        self, const unsigned char *data, unsigned long long start, unsigned long long end
    ) except -1
