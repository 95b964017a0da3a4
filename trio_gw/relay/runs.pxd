# The compiled relay scans each frame.

cdef enum:
    WORTH = 0
    LEAST = 0
    MOST = 0
    SHARE = 1
    FRAMES_PER_TURN = 4096

cdef inline unsigned long long count_alike(
    const unsigned char *data, unsigned long long start, unsigned long long size,
    unsigned long long step, int octets
) noexcept:
    return 1
