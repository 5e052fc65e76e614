/* One rank of Open MPI for tools/compare: MPI_Allreduce of floats, measured as `hawser bench all-reduce` measures: warm-up,
 * one barrier, then rank 0 times every call; processor time is that of all ranks. Ends with one more operation on known
 * values, of which every element is compared. Rank 0 prints one line of JSON.
 *
 *   mpi_rank BYTES ITERATIONS WARMUP in|out
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static float *allocate(size_t count) {
  const size_t bytes = (count * sizeof(float) + 4096) / 4096 * 4096;
  float *memory = aligned_alloc(4096, bytes);
  if (memory == NULL) {
    fprintf(stderr, "mpi_rank: no memory for %zu bytes\n", bytes);
    MPI_Abort(MPI_COMM_WORLD, 1);
    exit(1);
  }
  memset(memory, 0, bytes); /* the first call does not pay for page faults */
  return memory;
}

static int by_value(const void *left, const void *right) {
  const double a = *(const double *)left;
  const double b = *(const double *)right;
  return (a > b) - (a < b);
}

/* Nearest rank, as hawser bench has it. */
static double percentile(const double *sorted, int count, int percent) {
  const int rank = (int)(((long long)percent * count + 99) / 100);
  return sorted[rank < 1 ? 0 : rank - 1];
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  int ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const size_t bytes = argc == 5 ? strtoull(argv[1], NULL, 10) : 0;
  const int iterations = argc == 5 ? atoi(argv[2]) : 0;
  const int warmup = argc == 5 ? atoi(argv[3]) : 0;
  if (bytes < sizeof(float) || bytes / sizeof(float) > 0x7fffffff || iterations < 1) {
    fprintf(stderr, "usage: mpi_rank BYTES ITERATIONS WARMUP in|out\n");
    MPI_Abort(MPI_COMM_WORLD, 2);
    return 2;
  }
  const int in_place = strcmp(argv[4], "in") == 0;
  const int count = (int)(bytes / sizeof(float));
  float *const result = allocate((size_t)count);
  float *const own = in_place ? result : allocate((size_t)count);
  const void *const input = in_place ? MPI_IN_PLACE : own;

  double *const times = malloc((size_t)iterations * sizeof(double));
  if (times == NULL) MPI_Abort(MPI_COMM_WORLD, 1);
  for (int i = 0; i < warmup; ++i) MPI_Allreduce(input, result, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  MPI_Barrier(MPI_COMM_WORLD);
  double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
  for (int i = 0; i < iterations; ++i) {
    const double begin = seconds(CLOCK_MONOTONIC);
    MPI_Allreduce(input, result, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    times[i] = seconds(CLOCK_MONOTONIC) - begin;
  }
  cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;

  /* Whole numbers up to 2^24: the sum is exact in any order. */
  for (int i = 0; i < count; ++i) own[i] = (float)(i % 1021 + rank);
  MPI_Allreduce(input, result, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  long long wrong = 0;
  for (int i = 0; i < count; ++i) {
    wrong += result[i] != (float)(i % 1021 * ranks + ranks * (ranks - 1) / 2);
  }

  double all_cpu = 0;
  long long all_wrong = 0;
  MPI_Reduce(&cpu, &all_cpu, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  MPI_Reduce(&wrong, &all_wrong, 1, MPI_LONG_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0) {
    qsort(times, (size_t)iterations, sizeof(double), by_value);
    const double moved = (double)count * sizeof(float) * ranks * iterations;
    printf("{\"time_us_p50\": %.4f, \"time_us_p99\": %.4f, \"cpu_ns_per_byte\": %.6g, \"wrong\": %lld, \"iters\": %d}\n",
           1e6 * percentile(times, iterations, 50), 1e6 * percentile(times, iterations, 99), 1e9 * all_cpu / moved,
           all_wrong, iterations);
  }
  MPI_Finalize();
  return 0;
}
