# The types of `frame_queue.py` where it is compiled. A frame may announce a length of 63 bits.

import cython


cdef class FrameQueue:
    cdef public long long dropped, limit, waiting
    cdef object _filled

    cpdef fill(self, DirectionFrames direction)


cdef class DirectionFrames:
    cdef FrameQueue _queue
    cdef public object encoder
    cdef public list sizes
    cdef dict _refused
    cdef long long _lost, _refusals

    @cython.locals(queue=FrameQueue, sizes=list)
    cpdef passed(self, unsigned long long size, bint last)

    @cython.locals(queue=FrameQueue)
    cpdef refused(self, unsigned long long size)
