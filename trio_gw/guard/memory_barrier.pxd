# The C form of `memory_barrier.py`: without a barrier a processor may read before it has written.

cdef extern from * nogil:
    """
    #define trio_gw_memory_barrier() __sync_synchronize()
    """
    void full "trio_gw_memory_barrier"() noexcept
