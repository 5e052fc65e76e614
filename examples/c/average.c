/* A complete C program: N processes average a vector, step by step, and go on when one of them dies.
 *
 *   average --serve 127.0.0.1:4900 --peers 3          the first process; it also holds the coordinator
 *   average --coordinator 127.0.0.1:4900 --peers 3    each of the others, on this machine or another
 *
 * Kill one in the middle: the others say so and finish. Start one more: it is let in at the next step. Everything runs
 * on the main thread; the library moves the data on threads of its own. */
#define _POSIX_C_SOURCE 200809L

#include <hawser/hawser.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct options {
  const char* serve;       /* address to hold a coordinator at, or NULL */
  const char* coordinator; /* address of somebody else's, or NULL */
  uint32_t peers;          /* that a new group waits for */
  uint32_t steps;
  uint32_t pause_ms; /* between steps, to have time to kill one by hand */
  size_t count;      /* elements */
} options_t;

static int usage(const char* program) {
  fprintf(stderr,
          "usage: %s (--serve HOST:PORT | --coordinator HOST:PORT) [--peers N] [--steps N] [--count N] [--pause MS]\n",
          program);
  return 2;
}

static int parse(int argc, char** argv, options_t* options) {
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) {
      return 0;
    }
    const char* name = argv[i];
    const char* value = argv[i + 1];
    if (strcmp(name, "--serve") == 0) {
      options->serve = value;
    } else if (strcmp(name, "--coordinator") == 0) {
      options->coordinator = value;
    } else if (strcmp(name, "--peers") == 0) {
      options->peers = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--steps") == 0) {
      options->steps = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--count") == 0) {
      options->count = (size_t)strtoull(value, NULL, 10);
    } else if (strcmp(name, "--pause") == 0) {
      options->pause_ms = (uint32_t)strtoul(value, NULL, 10);
    } else {
      return 0;
    }
  }
  return (options->serve != NULL) != (options->coordinator != NULL) && options->peers > 0 && options->count > 0;
}

/* Every failure of the library comes with a sentence that names the peer, the address or the argument. */
static int succeeded(hawser_status_t status) {
  if (status != HAWSER_OK) {
    fprintf(stderr, "average: %s: %s\n", hawser_status_name(status), hawser_last_error());
  }
  return status == HAWSER_OK;
}

/* FNV-1a (Fowler, Noll, Vo) over the bits: equal at all peers, to the last one. */
static uint64_t digest(const float* values, size_t count) {
  const unsigned char* bytes = (const unsigned char*)values;
  uint64_t hash = UINT64_C(14695981039346656037);
  for (size_t i = 0; i < count * sizeof *values; ++i) {
    hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
  }
  return hash;
}

/* The step that all members do next, as the oldest member counts: that is rank 0, and newcomers have yet to hear it. */
static int agree_on_step(hawser_comm_t* comm, uint32_t* step) {
  hawser_status_t status = HAWSER_PEER_LOST;
  while (status == HAWSER_PEER_LOST) { /* rank 0 was lost; all survivors know, and the next oldest takes its place */
    status = hawser_broadcast(comm, step, step, 1, HAWSER_U32, 0, NULL, NULL);
  }
  return succeeded(status);
}

static int compute(hawser_comm_t* comm, const options_t* options, float* values) {
  uint64_t last = 0;
  for (uint32_t step = 0; step < options->steps; ++step) {
    /* The admission point: newcomers come in here, and for them it is the same place as for the others. */
    hawser_view_t view = HAWSER_VIEW_INIT;
    if (!succeeded(hawser_comm_admit(comm, 0)) || !agree_on_step(comm, &step) ||
        !succeeded(hawser_comm_view(comm, &view))) {
      return 0;
    }
    for (size_t i = 0; i < options->count; ++i) {
      values[i] = (float)(view.rank + 1) / (float)(i + 1);
    }
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    if (!succeeded(hawser_all_reduce(comm, values, values, options->count, HAWSER_F32, HAWSER_AVG, NULL, &info))) {
      return 0;
    }
    last = digest(values, options->count);
    printf("step %" PRIu32 ": rank %" PRIu32 ", %" PRIu32 " peers%s, %.1f ms, %.0f MB/s, digest %016" PRIx64 "\n", step,
           view.rank, info.participants, info.attempts > 1 ? " after a loss" : "", (double)info.time_us / 1e3,
           (double)(info.bytes_sent + info.bytes_received) / (double)(info.time_us + 1), last);
    fflush(stdout);
    if (options->pause_ms > 0) {
      const struct timespec pause = {options->pause_ms / 1000, (long)(options->pause_ms % 1000) * 1000000L};
      nanosleep(&pause, NULL);
    }
  }
  printf("digest %016" PRIx64 "\n", last);
  return 1;
}

int main(int argc, char** argv) {
  options_t options = {NULL, NULL, 2, 10, 0, 1000003};
  if (!parse(argc, argv, &options)) {
    return usage(argv[0]);
  }

  hawser_coordinator_t* coordinator = NULL;
  char address[128];
  if (options.serve != NULL) {
    hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
    config.listen = options.serve;
    if (!succeeded(hawser_coordinator_start(&config, &coordinator)) ||
        !succeeded(hawser_coordinator_address(coordinator, address, sizeof address))) {
      return 1;
    }
    printf("coordinator %s\n", address);
    fflush(stdout);
    options.coordinator = address;
  }

  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  config.coordinators = options.coordinator;
  config.min_size = options.peers;
  hawser_comm_t* comm = NULL;
  float* values = malloc(options.count * sizeof *values);
  int good = values != NULL && succeeded(hawser_comm_create(&config, &comm)) && succeeded(hawser_comm_join(comm, 0)) &&
             compute(comm, &options, values) &&
             /* All are done before the one that holds the coordinator takes it away. */
             succeeded(hawser_barrier(comm, NULL, NULL)) && succeeded(hawser_comm_leave(comm, 0));
  if (comm != NULL) {
    hawser_comm_destroy(comm);
  }
  free(values);
  if (coordinator != NULL) {
    hawser_coordinator_destroy(coordinator);
  }
  return good ? 0 : 1;
}
