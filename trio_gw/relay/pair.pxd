# The types of `pair.py` where it is compiled.

from trio_gw.relay.lane cimport Lane


cdef class End:
    cdef public bint ended, waits
    cdef public int fd
    cdef public unsigned int interest
    cdef public Lane lane
    cdef public End other
    cdef public object pair, tls, toll
    cdef public unsigned long long announced, begun
    cdef public bytes unsent


cdef class Pair:
    cdef public End backend, client
