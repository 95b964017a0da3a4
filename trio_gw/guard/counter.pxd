# The types of `counter.py` in the compiled form.

import cython

from trio_gw.guard cimport memory_barrier

cdef long long _COUNT, _STAMP, _EVENTS, _OCTETS, _NO_LIMIT
cdef int _COUNT_BITS


cdef class CounterTable:
    cdef readonly object lock
    cdef readonly long long others
    cdef readonly long long[::1] cells
    cdef readonly Py_ssize_t own, width
    cdef readonly object memory

    @cython.locals(value="long long")
    cdef long long used(self, Py_ssize_t cell, long long window) noexcept

    @cython.locals(value="long long")
    cdef void subtract(self, Py_ssize_t cell, long long window, long long amount) noexcept

    @cython.locals(stamp="long long", count="long long", value="long long")
    cdef void add(self, Py_ssize_t cell, long long window, long long amount) noexcept


cdef class WindowCounter:
    cdef object __weakref__
    cdef readonly object level, reason, tier
    cdef public long long asked_window, notified
    cdef readonly bint octets
    cdef readonly long long burst, limit
    cdef readonly double per
    cdef readonly Py_ssize_t cell
    cdef readonly set leased
    cdef readonly long long fingerprint
    cdef object _directory
    cdef long long[::1] _places, _seen, _serials
    cdef CounterTable _table

    @cython.locals(table=CounterTable, stamp="long long", total="long long", value="long long",
                   index=Py_ssize_t)
    cdef long long used(self, Py_ssize_t odd, long long window) except -1

    cdef long long window(self, double now) noexcept

    @cython.locals(odd="long long", limit="long long", burst="long long", before="long long")
    cdef long long remaining(self, long long window) except? -1

    @cython.locals(amount="long long", window="long long")
    cdef void charge(self, long long messages, long long octets, double now) noexcept

    @cython.locals(others="long long", remaining="long long", window="long long")
    cdef bint fits(self, long long messages, long long octets, double now) except -1

    cdef bint exceeded(self, long long octets, long long window) except -1

    cdef object limit_reached(self, double now)
