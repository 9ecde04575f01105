/* A histogram of microseconds with a relative error below 1/256, in fixed memory (the idea is HdrHistogram's:
 * linear buckets inside each power of two). infermux/bench/histogram.py has the same buckets. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define SUB_BITS 8
#define SUB (1 << SUB_BITS)
#define POWERS 32

struct histogram {
    uint64_t count, sum, most;
    uint32_t buckets[(POWERS + 1) * SUB];
};

static inline int bucket_of(uint64_t value) {
    if (value < SUB)
        return (int)value;
    int shift = 63 - __builtin_clzll(value) - SUB_BITS;
    return shift < POWERS ? (shift + 1) * SUB + (int)((value >> shift) - SUB) : (POWERS + 1) * SUB - 1;
}

static inline void record(struct histogram *histogram, int64_t nanoseconds) {
    uint64_t value = nanoseconds < 0 ? 0 : (uint64_t)nanoseconds / 1000;
    histogram->buckets[bucket_of(value)]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->most)
        histogram->most = value;
}

/* The buckets that are not empty, as [number, count]; who reads them works out the percentiles. */
static inline void print_histogram(const char *name, const struct histogram *histogram) {
    const char *comma = "";
    printf("\"%s\":{\"count\":%lu,\"sum\":%lu,\"max\":%lu,\"buckets\":[", name, (unsigned long)histogram->count,
           (unsigned long)histogram->sum, (unsigned long)histogram->most);
    for (int i = 0; i < (POWERS + 1) * SUB; i++)
        if (histogram->buckets[i]) {
            printf("%s[%d,%u]", comma, i, histogram->buckets[i]);
            comma = ",";
        }
    printf("]}");
}

#endif
