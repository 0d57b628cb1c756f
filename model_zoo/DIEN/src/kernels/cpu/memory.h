// Numbers that begin where a cache line does, zero at first.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

constexpr size_t LINE = 64;

// Asks for the rows that the next step takes, behind (1) or before (-1) those of this step: processors do not follow so
// many places by themselves.
template <class Real>
inline void prefetch_rows(const Real* const* rows, int count, int64_t size, int direction) {
    for (int row = 0; row < count; ++row) {
        const char* line = reinterpret_cast<const char*>(rows[row] + direction * size);
        const char* const last = line + size * sizeof(Real) - 1;
        for (; line < last; line += LINE) __builtin_prefetch(line);
        __builtin_prefetch(last);
    }
}

template <class Real>
class Buffer {
public:
    explicit Buffer(int64_t size) : numbers_(allocate(size)) {}

    Real* data() { return numbers_.get(); }
    const Real* data() const { return numbers_.get(); }

private:
    struct Free {
        void operator()(Real* numbers) const { std::free(numbers); }
    };

    static Real* allocate(int64_t size) {
        const size_t bytes = (size * sizeof(Real) / LINE + 1) * LINE;
        void* numbers = std::aligned_alloc(LINE, bytes);
        if (!numbers) throw std::bad_alloc();
        return static_cast<Real*>(std::memset(numbers, 0, bytes));
    }

    std::unique_ptr<Real, Free> numbers_;
};

// Numbers that are written anew each time, of ever other size.
template <class Real>
class Scratch {
public:
    Real* of(int64_t size) {
        if (size > size_) {
            numbers_ = Buffer<Real>(size);
            size_ = size;
        }
        return data();
    }

    Real* data() { return numbers_.data(); }
    const Real* data() const { return numbers_.data(); }

private:
    int64_t size_ = 0;
    Buffer<Real> numbers_{0};
};
