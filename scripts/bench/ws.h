/* What the load generator and the echo server share: payloads, masks, time, giving up. */
#ifndef WS_H
#define WS_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { FIN = 0x80, MASKED = 0x80 };
enum { MAX_PAYLOAD = 1 << 20, READ = 256 * 1024, STAMP = 8, MAX_HEAD = 16 * 1024 };

static uint8_t pattern[MAX_PAYLOAD];  /* every payload: 8 bytes of its own, the rest from here */

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static inline uint64_t mix(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void fill_pattern(void) {
    for (size_t at = 0; at < sizeof pattern; at += 8) {
        uint64_t word = mix(at);
        memcpy(pattern + at, &word, 8);
    }
}

static inline uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Copy a piece of a payload that starts `at` bytes into it, masked or unmasked (RFC 6455 §5.3). */
static inline void mask_copy(uint8_t *to, const uint8_t *from, size_t size, const uint8_t key[4],
                             uint64_t at) {
    uint8_t turned[8];
    for (int i = 0; i < 8; i++) turned[i] = key[(at + i) & 3];
    uint64_t wide;
    memcpy(&wide, turned, 8);
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    for (; i < size; i++) to[i] = from[i] ^ turned[i & 7];
}

/* Write a frame header; returns its size. */
static inline size_t put_header(uint8_t *to, uint8_t first, uint64_t size, const uint8_t *key) {
    size_t n = 2;
    to[0] = first;
    if (size < 126) {
        to[1] = (uint8_t)size;
    } else if (size < 65536) {
        to[1] = 126;
        to[2] = (uint8_t)(size >> 8);
        to[3] = (uint8_t)size;
        n = 4;
    } else {
        to[1] = 127;
        for (int i = 0; i < 8; i++) to[2 + i] = (uint8_t)(size >> (56 - 8 * i));
        n = 10;
    }
    if (key) {
        to[1] |= MASKED;
        memcpy(to + n, key, 4);
        n += 4;
    }
    return n;
}

/* A frame header, collected byte by byte if need be. */
struct header {
    uint8_t raw[14];
    uint8_t have;
    uint64_t size; /* of the payload, once complete */
};

/* Take bytes of a header from the input; true once it is complete. */
static inline int take_header(struct header *h, const uint8_t **at, const uint8_t *end) {
    for (;;) {
        size_t need = 2;
        if (h->have >= 2) {
            uint8_t length = h->raw[1] & 0x7f;
            need += length == 126 ? 2 : length == 127 ? 8 : 0;
            need += h->raw[1] & MASKED ? 4 : 0;
            if (h->have == need) {
                h->size = length;
                if (length == 126) h->size = (uint64_t)h->raw[2] << 8 | h->raw[3];
                if (length == 127) {
                    h->size = 0;
                    for (int i = 0; i < 8; i++) h->size = h->size << 8 | h->raw[2 + i];
                }
                return 1;
            }
        }
        if (*at == end) return 0;
        size_t n = need - h->have, there = (size_t)(end - *at);
        if (n > there) n = there;
        memcpy(h->raw + h->have, *at, n);
        h->have += n;
        *at += n;
    }
}

static inline const uint8_t *mask_key(const struct header *h) { return h->raw + h->have - 4; }

/* Bytes waiting to be sent. */
struct queue {
    uint8_t *data;
    size_t start, end, size;
};

static inline uint8_t *reserve(struct queue *q, size_t size) {
    if (q->start == q->end) q->start = q->end = 0;
    if (q->end + size > q->size) {
        memmove(q->data, q->data + q->start, q->end - q->start);
        q->end -= q->start;
        q->start = 0;
        if (q->end + size > q->size) {
            q->size = (q->end + size) * 2;
            if (!(q->data = realloc(q->data, q->size))) die("out of memory");
        }
    }
    return q->data + q->end;
}

#endif
