// Threads, and the parts of the work that they take.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

inline int worker() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

// How many parts of the steps a pass takes, each with sums of its own: several a thread, so that none waits long for
// the last, and for all as many; few where there is little to do or the sums are large.
inline int64_t count_parts(int64_t steps, int64_t threads, int64_t bytes_of_sums) {
    constexpr int64_t MEMORY = 64 << 20, FEWEST_STEPS = 256;
    if (threads == 1) return 1;
    const int64_t each = std::clamp<int64_t>(MEMORY / (bytes_of_sums * threads), 1, 8);
    const int64_t parts = std::clamp<int64_t>(steps / FEWEST_STEPS, 1, threads * each);
    return parts > threads ? parts - parts % threads : parts;
}

// Calls work(part) for each part, on any thread. Memory is taken before: what is thrown inside ends the process.
template <class Work>
void for_each_part(int64_t parts, int64_t threads, Work work) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t part = 0; part < parts; ++part) work(part);
}
