# The functions of `syscalls.py` as calls of the C library, inlined where they are used.

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from "sys/epoll.h" nogil:
    struct epoll_data:
        int fd
    struct epoll_event:
        unsigned int events
        epoll_data data
    int epoll_wait(int number, epoll_event *events, int most, int milliseconds)

cdef extern from "sys/socket.h" nogil:
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL
    Py_ssize_t c_recv "recv"(int fd, void *buffer, size_t size, int flags)
    Py_ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)

cdef enum:
    MAX_EVENTS = 256

ctypedef (int, unsigned int) Ready


cdef inline double now() noexcept:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec + time.tv_nsec * 1e-9


cdef inline int wait(
    int number, object epoll, Ready[MAX_EVENTS] ready, int most, double seconds
) except -1:
    cdef epoll_event events[MAX_EVENTS]
    cdef int milliseconds, found, index
    most = min(most, MAX_EVENTS)
    if seconds > 0:
        milliseconds = <int> min(seconds * 1000 + 1, 1e9)  # never too early
        with nogil:
            found = epoll_wait(number, events, most, milliseconds)
    else:
        found = epoll_wait(number, events, most, 0)
    if found < 0:
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
        PyErr_CheckSignals()
        return 0
    for index in range(found):
        ready[index] = (events[index].data.fd, events[index].events)
    return found


cdef inline bint later() noexcept:
    return errno == EAGAIN or errno == EINTR


cdef inline Py_ssize_t receive(int fd, bytearray buffer, list room) noexcept:
    cdef Py_ssize_t size = len(<object> room[0])
    cdef char *end = PyByteArray_AS_STRING(buffer) + PyByteArray_GET_SIZE(buffer)
    cdef Py_ssize_t received = c_recv(fd, end - size, size, MSG_DONTWAIT)
    if received >= 0:
        return received
    return -1 if later() else 0


cdef inline Py_ssize_t transmit(
    int fd, object data, object view, Py_ssize_t start, Py_ssize_t stop
) noexcept:
    cdef const char *octets
    if isinstance(data, bytes):
        octets = PyBytes_AS_STRING(data)
    else:
        octets = PyByteArray_AS_STRING(data)
    cdef Py_ssize_t sent = c_send(fd, octets + start, stop - start, MSG_DONTWAIT | MSG_NOSIGNAL)
    if sent >= 0:
        return sent
    return 0 if later() else -1
