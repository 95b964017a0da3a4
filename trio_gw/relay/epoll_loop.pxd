# The types of `epoll_loop.py` where it is compiled.

import cython

from trio_gw.relay cimport syscalls
from trio_gw.relay.lane cimport Lane
from trio_gw.relay.pair cimport End, Pair

cdef unsigned int _IN, _OUT, _HANGUP
cdef int _WOKEN
cdef Py_ssize_t _ROOM
cdef unsigned long long _FRAMES_PER_TURN, _LIMITED_FRAMES_PER_TURN


cdef class Poller:
    cdef object _epoll, _postponed, _view
    cdef int _trio_fd, _count, _number, _woken
    cdef syscalls.Ready _ready[syscalls.MAX_EVENTS]
    cdef bytearray _buffer
    cdef dict _callbacks
    cdef double _time
    cdef list _ends, _into
    cdef public bint trio_ready, tasks_woken

    @cython.locals(busy=bint, until=double)
    cpdef bint run_until(self, double seconds) except -1

    @cython.locals(count=int, index=int, fd=int, event="unsigned int", end=End, later=int)
    cpdef int poll_once(self, int most, double seconds=*) except -1

    @cython.locals(end=End)
    cdef int _resume(self, int later) except -1

    cdef _serve(self, End end, unsigned int event)

    cdef _fail(self, End end)

    cdef _postpone(self, End end)

    @cython.locals(lane=Lane, other=End, received=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t,
                   sent=Py_ssize_t, left="unsigned long long", data=object, view=object)
    cdef _forward(self, End end)

    @cython.locals(lent="unsigned long long")
    cdef unsigned long long _at_once(self, End end) except? 0

    @cython.locals(lane=Lane)
    cdef bint _is_free(self, End end) except -1

    @cython.locals(messages="unsigned long long", octets="unsigned long long", borrowed=bint,
                   now=double)
    cdef bint _fits(self, End end, unsigned long long left, object data) except -1

    @cython.locals(other=End)
    cdef _police(self, End end, unsigned long long left, object data)

    @cython.locals(received=Py_ssize_t, got=Py_ssize_t)
    cdef Py_ssize_t _decrypt(self, End end) except -2

    @cython.locals(sent=Py_ssize_t)
    cdef bint _flush(self, End end) except -1

    @cython.locals(wanted="unsigned int")
    cdef _update_interest(self, End end)

    cdef _release(self, End end)


cdef unsigned int _interest(End end)

@cython.locals(sent=Py_ssize_t, size=Py_ssize_t)
cdef Py_ssize_t _encrypt(object tls, object data) except -2
