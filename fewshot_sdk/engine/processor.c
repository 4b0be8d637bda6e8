/* Which of the variants in variants.py an x86-64 processor and its operating system can run. */

#include <cpuid.h>
#include <stdint.h>

/* The registers that the operating system saves, as bits; 0 if it says nothing. */
static uint32_t saved(uint32_t features) {
    uint32_t low = 0, high;
    if (features & bit_OSXSAVE) __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* The fastest variant; "" if there is none. */
const char *processor_fastest(void) {
    uint32_t a, b, c, d, seven_a = 0, seven_b = 0, highest = __get_cpuid_max(0, 0);
    if (highest < 1) return "";
    __cpuid(1, a, b, c, d);
    uint32_t one = c, registers = saved(one);
    if (highest >= 7) {
        __cpuid_count(7, 0, a, seven_b, c, d);
        if (a >= 1) __cpuid_count(7, 1, seven_a, b, c, d);
    }
    uint32_t avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
#if defined(__APPLE__)
    registers |= 0xe0; /* macOS saves them from their first use on, and only then says so */
#endif
    if (!(one & bit_SSE4_2)) return "";
    if (~one & (bit_AVX | bit_FMA) || !(seven_b & bit_AVX2) || (registers & 0x06) != 0x06) return "sse4";
    if (~seven_b & avx512 || (registers & 0xe6) != 0xe6) return "avx2";
    return seven_a & 1 << 5 ? "avx512_bf16" : "avx512"; /* GCC 9 has no name for this bit */
}
