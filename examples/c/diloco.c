/* A complete C program: N processes fit one linear model, each on samples of its own. They train apart, and every H
 * steps an outer step averages what they have moved, in 8 bits a parameter (DiLoCo). Kill one in the middle, start one
 * more: the round goes on among the rest, and a newcomer gets the state of the others.
 *
 *   diloco --serve 127.0.0.1:4900 --peers 3          the first process; it also holds the coordinator
 *   diloco --coordinator 127.0.0.1:4900 --peers 3    each of the others, on this machine or another
 *
 * --steps N: rounds. Everything runs on the main thread; the library moves the data on threads of its own. */
#include <hawser/hawser.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { features = 256, inner_steps = 100 };

typedef struct options {
  const char* serve;       /* address to hold a coordinator at, or NULL */
  const char* coordinator; /* address of somebody else's, or NULL */
  uint32_t peers;          /* that a new group waits for */
  uint64_t rounds;
} options_t;

static int parse(int argc, char** argv, options_t* options) {
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) {
      return 0;
    }
    if (strcmp(argv[i], "--serve") == 0) {
      options->serve = argv[i + 1];
    } else if (strcmp(argv[i], "--coordinator") == 0) {
      options->coordinator = argv[i + 1];
    } else if (strcmp(argv[i], "--peers") == 0) {
      options->peers = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    } else if (strcmp(argv[i], "--steps") == 0) {
      options->rounds = strtoull(argv[i + 1], NULL, 10);
    } else {
      return 0;
    }
  }
  return (options->serve != NULL) != (options->coordinator != NULL) && options->peers > 0;
}

/* Every failure of the library comes with a sentence that names the peer, the address or the argument. */
static int succeeded(hawser_status_t status) {
  if (status != HAWSER_OK) {
    fprintf(stderr, "diloco: %s: %s\n", hawser_status_name(status), hawser_last_error());
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

/* Marsaglia's xorshift, from -1 to 1: samples need not be better than that. */
static float draw(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return (float)(*state >> 40) / (float)(1 << 23) - 1.0f;
}

static float truth(size_t i) { return (float)(i % 7) - 3.0f; }

/* Steps of normalized least squares on this peer's own samples; the mean squared error before each. */
static double train(float* weights, uint64_t* state) {
  double squares = 0;
  for (int step = 0; step < inner_steps; ++step) {
    float x[features];
    float error = 0;
    float norm = 0;
    for (size_t i = 0; i < features; ++i) {
      x[i] = draw(state);
      error += (weights[i] - truth(i)) * x[i];
      norm += x[i] * x[i];
    }
    for (size_t i = 0; i < features; ++i) {
      weights[i] -= 0.5f * error * x[i] / norm;
    }
    squares += (double)error * (double)error;
  }
  return squares / inner_steps;
}

static int fit(hawser_comm_t* comm, const options_t* options) {
  static float weights[features];
  hawser_view_t view = HAWSER_VIEW_INIT;
  if (!succeeded(hawser_comm_view(comm, &view))) {
    return 0;
  }
  uint64_t state = UINT64_C(88172645463325252) + view.rank * UINT64_C(7919);

  hawser_outer_param_t param = HAWSER_OUTER_PARAM_INIT;
  param.name = "weights";
  param.data = weights;
  param.count = features;
  hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
  compression.codec = HAWSER_CODEC_INT8;
  hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
  config.compression = &compression;
  config.momentum = 0.5;
  hawser_outer_t* outer = NULL;
  uint64_t round = 0;
  /* Founders take the first member's parameters, newcomers those that the others have come to. */
  int good = succeeded(hawser_outer_create(comm, &param, 1, &config, &outer)) &&
             succeeded(hawser_outer_sync(outer, NULL)) && succeeded(hawser_outer_round(outer, &round, NULL));
  while (good && round < options->rounds) {
    const double error = train(weights, &state);
    hawser_outer_info_t info = HAWSER_OUTER_INFO_INIT;
    good = succeeded(hawser_outer_step(outer, inner_steps, &info));
    round = info.round;
    if (good) {
      printf("round %" PRIu64 ": error %.3g, %" PRIu32 " peers%s%s, %" PRIu64 " bytes sent, digest %016" PRIx64 "\n",
             round, sqrt(error), info.participants, info.attempts > 1 ? " after a loss" : "",
             info.synced ? ", newcomers" : "", info.bytes_sent, digest(weights, features));
      fflush(stdout);
    }
  }
  if (good) {
    printf("digest %016" PRIx64 "\n", digest(weights, features));
  }
  if (outer != NULL) {
    hawser_outer_destroy(outer);
  }
  return good;
}

int main(int argc, char** argv) {
  options_t options = {NULL, NULL, 2, 30};
  if (!parse(argc, argv, &options)) {
    fprintf(stderr, "usage: %s (--serve HOST:PORT | --coordinator HOST:PORT) [--peers N] [--steps ROUNDS]\n", argv[0]);
    return 2;
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
  int good = succeeded(hawser_comm_create(&config, &comm)) && succeeded(hawser_comm_join(comm, 0)) &&
             fit(comm, &options) &&
             /* All are done before the one that holds the coordinator takes it away. */
             succeeded(hawser_barrier(comm, NULL, NULL)) && succeeded(hawser_comm_leave(comm, 0));
  if (comm != NULL) {
    hawser_comm_destroy(comm);
  }
  if (coordinator != NULL) {
    hawser_coordinator_destroy(coordinator);
  }
  return good ? 0 : 1;
}
