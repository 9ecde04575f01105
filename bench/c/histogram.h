/* A histogram of microseconds with a relative error below 1/256, in fixed memory (the idea is HdrHistogram's:
 * linear buckets inside each power of two). */
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

/* The middle of a bucket. */
static inline double value_of(int bucket) {
    if (bucket < SUB)
        return bucket;
    int shift = bucket / SUB - 1;
    return ((double)(bucket % SUB + SUB) + 0.5) * (double)(UINT64_C(1) << shift);
}

static inline void record(struct histogram *histogram, int64_t nanoseconds) {
    uint64_t value = nanoseconds < 0 ? 0 : (uint64_t)nanoseconds / 1000;
    histogram->buckets[bucket_of(value)]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->most)
        histogram->most = value;
}

static inline double percentile(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)(share * (double)histogram->count), seen = 0;
    for (int i = 0; i < (POWERS + 1) * SUB; i++) {
        seen += histogram->buckets[i];
        if (seen > wanted || (seen == histogram->count && seen))
            return value_of(i) < (double)histogram->most ? value_of(i) : (double)histogram->most;
    }
    return 0;
}

static inline void print_histogram(const char *name, const struct histogram *histogram) {
    printf("\"%s\":{\"count\":%lu,\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%lu}", name,
           (unsigned long)histogram->count, histogram->count ? (double)histogram->sum / (double)histogram->count : 0.0,
           percentile(histogram, 0.5), percentile(histogram, 0.9), percentile(histogram, 0.99),
           percentile(histogram, 0.999), (unsigned long)histogram->most);
}

#endif
