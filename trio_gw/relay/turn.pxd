# The types of `turn.py` where it is compiled.

import cython

from trio_gw.relay cimport calls
from trio_gw.relay.lane cimport Lane
from trio_gw.relay.pair cimport End, Pair

cdef unsigned int _IN, _OUT, _GONE
cdef int _WOKEN
cdef Py_ssize_t _ROOM
cdef unsigned long long _LOOKS, _SCREENED


cdef class Sockets:
    cdef object _epoll, _later, _view
    cdef int _caller, _count, _number, _woken
    cdef calls.Ready _ready[calls.MOST]
    cdef bytearray _buffer
    cdef dict _calls
    cdef double _time
    cdef list _ends, _into
    cdef public bint called, freed

    @cython.locals(busy=bint, until=double)
    cpdef bint stay(self, double seconds) except -1

    @cython.locals(count=int, index=int, fd=int, event="unsigned int", end=End, later=int)
    cpdef int serve(self, int most, double seconds=*) except -1

    @cython.locals(end=End)
    cdef int _resume(self, int later) except -1

    cdef _postpone(self, End end)

    @cython.locals(lane=Lane, other=End, received=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t,
                   sent=Py_ssize_t, left="unsigned long long", data=object, view=object)
    cdef _carry(self, End end)

    @cython.locals(lent="unsigned long long")
    cdef unsigned long long _at_once(self, End end) except? 0

    @cython.locals(lane=Lane)
    cdef bint _is_free(self, End end) except -1

    @cython.locals(messages="unsigned long long", octets="unsigned long long", borrowed=bint,
                   now=double)
    cdef bint _fits(self, End end, unsigned long long left, object data) except -1

    @cython.locals(other=End)
    cdef _screen(self, End end, unsigned long long left, object data)

    @cython.locals(received=Py_ssize_t, got=Py_ssize_t)
    cdef Py_ssize_t _decrypt(self, End end) except -2

    @cython.locals(sent=Py_ssize_t)
    cdef bint _flush(self, End end) except -1

    @cython.locals(wanted="unsigned int")
    cdef _expect(self, End end)

    cdef _let_go(self, End end)


cdef unsigned int _wanted(End end)

@cython.locals(sent=Py_ssize_t, size=Py_ssize_t)
cdef Py_ssize_t _encrypt(object tls, object data) except -2
