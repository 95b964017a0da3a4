# What `calls.py` does, as calls of the C library; compiled into whoever uses it.

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "sys/socket.h" nogil:
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL
    Py_ssize_t c_recv "recv"(int fd, void *buffer, size_t size, int flags)
    Py_ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)


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
