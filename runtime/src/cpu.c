/* What the machine offers: instruction sets and CPUs. */
#include "internal.h"
#include <cpuid.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The register state that the operating system saves.
static uint64_t saved_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

uint32_t moert_cpu_features(void) {
  unsigned a, b, c, d, c1, b7, c81;
  if (!__get_cpuid(1, &a, &b, &c1, &d) || !(c1 & bit_OSXSAVE))
    return 0;
  if (!__get_cpuid_count(7, 0, &a, &b7, &c, &d) || !__get_cpuid(0x80000001, &a, &b, &c81, &d))
    return 0;
  uint64_t state = saved_state();
  uint32_t features = 0;
  const unsigned want1 = bit_AVX | bit_FMA | bit_F16C | bit_MOVBE | bit_SSE4_2 | bit_POPCNT;
  const unsigned want7 = bit_AVX2 | bit_BMI | bit_BMI2;
  const unsigned lzcnt = 1 << 5;
  bool v3 = (state & 0x6) == 0x6 && (c1 & want1) == want1 && (b7 & want7) == want7 && (c81 & lzcnt);
  if (v3)
    features |= MOERT_CPU_X86_64_V3;
  const unsigned want512 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
  if (v3 && (state & 0xe6) == 0xe6 && (b7 & want512) == want512)
    features |= MOERT_CPU_X86_64_V4;
  return features;
}

int moert_isa_rank(const char *isa) {
  static const char *const kNames[] = {"avx2", "avx512"}; // in rising order
  for (int i = 0; i < 2; ++i)
    if (!strcmp(isa, kNames[i]))
      return i + 1;
  return 0;
}

// CPUs' worth of run time from a cgroup v2 "cpu.max" file; 0 when there is no limit.
static double quota_v2(const char *folder) {
  char path[4200], quota[32];
  long period;
  snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
  FILE *file = fopen(path, "re");
  if (!file)
    return 0;
  double cpus = 0;
  if (fscanf(file, "%31s %ld", quota, &period) == 2 && strcmp(quota, "max") && period > 0)
    cpus = atof(quota) / (double)period;
  fclose(file);
  return cpus;
}

static long read_long(const char *path) {
  long value = -1;
  FILE *file = fopen(path, "re");
  if (file) {
    if (fscanf(file, "%ld", &value) != 1)
      value = -1;
    fclose(file);
  }
  return value;
}

// The smallest quota of the process's cgroups; 0 when there is none.
static double cgroup_quota(void) {
  double least = 0;
  char line[4096];
  FILE *file = fopen("/proc/self/cgroup", "re");
  while (file && fgets(line, sizeof line, file)) {
    if (strncmp(line, "0::", 3))
      continue;
    char *folder = line + 3;
    folder[strcspn(folder, "\n")] = 0;
    for (;;) { // from the process's own group up to the root
      double cpus = quota_v2(!strcmp(folder, "/") ? "" : folder);
      if (cpus > 0 && (least == 0 || cpus < least))
        least = cpus;
      char *slash = strrchr(folder, '/');
      if (!slash || !*folder)
        break;
      *slash = 0;
    }
  }
  if (file)
    fclose(file);
  long quota = read_long("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  long period = read_long("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (quota > 0 && period > 0 && (least == 0 || (double)quota / (double)period < least))
    least = (double)quota / (double)period;
  return least;
}

// The mask may be wider than cpu_set_t: it is asked for in growing sizes.
static int affinity(void) {
  for (int bits = 1024; bits <= 1 << 20; bits *= 4) {
    cpu_set_t *set = CPU_ALLOC(bits);
    if (!set)
      return 1;
    int got = sched_getaffinity(0, CPU_ALLOC_SIZE(bits), set);
    int count = got ? 0 : CPU_COUNT_S(CPU_ALLOC_SIZE(bits), set);
    CPU_FREE(set);
    if (count)
      return count;
  }
  return 1;
}

int moert_cpu_count(void) {
  int count = affinity();
  double quota = cgroup_quota();
  // A part of a CPU rounds up: 1.5 CPUs run two threads better than one.
  if (quota > 0 && quota < count) {
    int whole = (int)quota;
    count = quota > whole ? whole + 1 : whole;
  }
  return count > 0 ? count : 1;
}
