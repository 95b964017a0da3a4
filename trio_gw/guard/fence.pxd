# What `fence.py` does, for who is compiled; a processor may read before it has written.

cdef extern from * nogil:
    """
    #define trio_gw_fence() __sync_synchronize()
    """
    void settle "trio_gw_fence"() noexcept
