# The types of `pair.py` where it is compiled.

import cython

from trio_gw.relay.lane cimport Lane


cdef class End:
    cdef public bint ended, queued
    cdef public int fd
    cdef public unsigned int interest
    cdef public Lane lane
    cdef public End other
    cdef public object pair, tls, rate_limit
    cdef public unsigned long long announced, begun, free_messages, free_octets
    cdef public double free_until
    cdef public bytes unsent

    cpdef acquire_lease(self, unsigned long long messages, unsigned long long octets, double until)

    @cython.locals(begun="unsigned long long", announced="unsigned long long",
                   messages="unsigned long long", octets="unsigned long long")
    cpdef tuple release_lease(self)


cdef class Pair:
    cdef public End backend, client
    cdef public bint failed
