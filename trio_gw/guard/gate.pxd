# The types of `gate.py` where it is compiled. A frame may announce 63 bits of octets.

import cython

from trio_gw.guard.quota cimport Ledger, Quota

cdef long long _COUNT, _STAMP, _MOST, _PART
cdef long long _MOST_MESSAGES, _LEAST_MESSAGES, _MOST_OCTETS, _LEAST_OCTETS
cdef int _COUNT_BITS


cdef class Gate:
    cdef tuple _quotas
    cdef object _borrower, _tell
    cdef public object heard
    cdef Ledger _ledger
    cdef Quota _refused, _shut
    cdef long long _messages, _octets
    cdef double _poor, _since
    cdef readonly double until

    cpdef bint fits(self, long long messages, unsigned long long octets, double now) except -1

    @cython.locals(quota=Quota, cells="long long[::1]", size="long long", window="long long",
                   room="long long", value="long long", count="long long", cell=Py_ssize_t,
                   stamp="long long")
    cdef bint _fits_alone(
        self, long long messages, unsigned long long octets, double now
    ) except -1

    @cython.locals(quota=Quota)
    cdef bint _fits_beside(self, long long messages, long long octets, double now) except -1

    @cython.locals(quota=Quota, messages="long long", octets="long long", share="long long",
                   until=double, end=double)
    cpdef bint lend(self, object borrower, double now) except -1

    @cython.locals(messages="long long", octets="long long")
    cpdef settle(self)

    @cython.locals(quota=Quota, window="long long", rest="long long")
    cpdef take_back(self, long long messages, long long octets)

    @cython.locals(quota=Quota, gate=Gate, called=bint)
    cdef bint _call_back(self) except -1

    @cython.locals(full=Quota)
    cpdef object take(self, unsigned long long octets, double now, bint again=*)

    @cython.locals(quota=Quota)
    cdef Quota _full(self, double now)

    @cython.locals(quota=Quota, full=Quota)
    cdef Quota _squeeze(self, long long octets, double now)

    @cython.locals(window="long long")
    cdef object _refuse(self, Quota quota, double now, bint again)

    cpdef drop(self, long long messages)

    cpdef add(self, unsigned long long octets, double now)

    cpdef count(self, long long messages, unsigned long long octets, double now)

    @cython.locals(quota=Quota)
    cdef _charge(self, long long messages, unsigned long long octets, double now, int sign)
