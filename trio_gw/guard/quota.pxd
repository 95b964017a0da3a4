# The types of `quota.py` where it is compiled. A frame may announce 63 bits of octets.

import cython

from trio_gw.guard cimport fence

cdef long long _COUNT, _STAMP, _MOST, _EVENTS, _OCTETS
cdef int _COUNT_BITS


cdef class Ledger:
    cdef readonly object lock
    cdef readonly long long others
    cdef long long[::1] cells
    cdef Py_ssize_t _own, _size, _width

    @cython.locals(stamp="long long", total="long long", value="long long")
    cdef long long used(self, Py_ssize_t cell, long long window) noexcept

    @cython.locals(stamp="long long", count="long long", value="long long")
    cdef void add(self, Py_ssize_t cell, long long window, long long amount) noexcept


cdef class Quota:
    cdef object __weakref__
    cdef readonly object level, reason, tier
    cdef public long long told
    cdef bint _octets
    cdef long long _burst, _limit
    cdef double _per
    cdef Ledger _ledger
    cdef Py_ssize_t _cell
    cdef long long _window

    cdef long long window(self, double now) noexcept

    @cython.locals(odd="long long", limit="long long", burst="long long", before="long long")
    cdef long long room(self, long long window) noexcept

    @cython.locals(amount="long long", window="long long")
    cdef void charge(self, long long messages, long long octets, double now) noexcept

    @cython.locals(others="long long", room="long long", window="long long")
    cdef bint fits(self, long long messages, long long octets, double now) noexcept

    cdef bint exceeded(self, long long octets, long long window) noexcept

    cdef object shut(self, double now)


cdef class Gate:
    cdef tuple _quotas
    cdef object _tell
    cdef public object heard
    cdef Ledger _ledger
    cdef Quota _shut

    @cython.locals(quota=Quota, cells="long long[::1]", size="long long", window="long long",
                   room="long long", value="long long", count="long long", cell=Py_ssize_t,
                   stamp="long long")
    cpdef bint fits(self, long long messages, unsigned long long octets, double now) except -1

    @cython.locals(quota=Quota)
    cdef bint _fits_beside(self, long long messages, long long octets, double now) except -1

    @cython.locals(full=Quota)
    cpdef object take(self, unsigned long long octets, double now)

    @cython.locals(quota=Quota)
    cdef Quota _full(self, double now)

    @cython.locals(quota=Quota, full=Quota)
    cdef Quota _squeeze(self, long long octets, double now)

    @cython.locals(window="long long")
    cdef object _refuse(self, Quota quota, double now)

    cpdef add(self, unsigned long long octets, double now)

    @cython.locals(quota=Quota)
    cdef _charge(self, long long messages, unsigned long long octets, double now, int sign)
