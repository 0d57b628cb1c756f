// What functions return; mirrored by layout.py.
#pragma once

#include <new>

constexpr int OK = 0, NO_MEMORY = 1, BAD_OFFSETS = 2, BAD_ID = 3;

template <class Work>
int reported(Work work) {
    try {
        work();
        return OK;
    } catch (const std::bad_alloc&) {
        return NO_MEMORY;
    }
}
