# The types of `limiter.py` in the compiled form. A frame may announce a length of 63 bits.

import cython

from trio_gw.guard.counter cimport CounterTable, WindowCounter

cdef long long _COUNT, _STAMP, _MAX_OCTETS, _LEASE_FRACTION
cdef long long _MAX_LEASE_MESSAGES, _MIN_LEASE_MESSAGES, _MAX_LEASE_OCTETS, _MIN_LEASE_OCTETS
cdef long long _UNCOUNTED
cdef double _FOREVER
cdef int _COUNT_BITS


cdef class DirectionLimiter:
    cdef tuple _counters, _decided
    cdef object _holder, _notify, _refused, _waiting
    cdef public object listeners
    cdef CounterTable _table
    cdef long long _messages, _octets
    cdef double _no_lease_until, _leased_at
    cdef readonly double suspended_until, until

    cpdef bint fits(self, long long messages, unsigned long long octets, double now) except -1

    @cython.locals(counter=WindowCounter, cells="long long[::1]", size="long long", window="long long",
                   remaining="long long", value="long long", count="long long", cell=Py_ssize_t,
                   stamp="long long")
    cdef bint _fits_single(
        self, long long messages, unsigned long long octets, double now
    ) except -1

    @cython.locals(counter=WindowCounter)
    cdef bint _fits_shared(self, long long messages, long long octets, double now) except -1

    @cython.locals(counter=WindowCounter, messages="long long", octets="long long", share="long long",
                   until=double, end=double)
    cpdef bint lease(self, object holder, double now) except -1

    @cython.locals(messages="long long", octets="long long")
    cpdef reclaim_lease(self)

    @cython.locals(counter=WindowCounter, window="long long", rest="long long")
    cpdef end_lease(self, long long messages, long long octets)

    @cython.locals(counter=WindowCounter, limiter=DirectionLimiter, called=bint)
    cdef bint _reclaim_leases(self) except -1

    @cython.locals(full=WindowCounter)
    cpdef object take(self, unsigned long long octets, double now, bint again=*)

    @cython.locals(counter=WindowCounter)
    cdef WindowCounter _first_full(self, double now)

    @cython.locals(counter=WindowCounter, full=WindowCounter)
    cdef WindowCounter _count_near_limit(self, long long octets, double now)

    @cython.locals(window="long long")
    cdef object _refuse(self, WindowCounter counter, double now, bint again)

    cpdef drop(self, long long messages)

    cpdef add(self, unsigned long long octets, double now)

    cpdef count(self, long long messages, unsigned long long octets, double now)

    @cython.locals(counter=WindowCounter)
    cdef _charge(self, long long messages, unsigned long long octets, double now, int sign)
