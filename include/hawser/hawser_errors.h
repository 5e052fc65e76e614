/* Every status the library returns. The list is the only place where codes, categories and sentences stand: the enum below,
 * hawser_status_string, the Python exceptions and docs/errors.md derive from it. Values never change; gaps are left on purpose. */
#ifndef HAWSER_ERRORS_H
#define HAWSER_ERRORS_H

/* X(NAME, value, CATEGORY, sentence). The category says what the caller should do:
 *   NONE         nothing went wrong
 *   USAGE        fix the call or the configuration; the communicator stays usable
 *   RETRY        call again; inputs are as they were
 *   PEER_LOST    a peer went away; the new view is installed, retry at once
 *   COORDINATOR  check the coordinator's address and process, then retry or rejoin
 *   MEMBERSHIP   this communicator is no longer a member; create a new one, join and sync
 *   RESOURCE     free memory, descriptors, ports or disk, then retry
 *   INTERNAL     a bug of the library or of the hardware; report it */
#define HAWSER_STATUS_LIST(X)                                                                                          \
  X(OK, 0, NONE, "success")                                                                                            \
  X(PENDING, 1, NONE, "the operation has not ended yet")                                                               \
  X(INVALID_ARGUMENT, 10, USAGE, "an argument is not valid")                                                           \
  X(INVALID_HANDLE, 11, USAGE, "the handle is NULL, was destroyed, or is of another kind")                             \
  X(NOT_MEMBER, 12, USAGE, "the communicator is not a member of its group; call hawser_comm_join first")               \
  X(ALREADY_MEMBER, 13, USAGE, "the communicator has joined already")                                                  \
  X(MISMATCH, 14, USAGE, "peers disagree about the parameters of the operation")                                       \
  X(UNSUPPORTED, 15, USAGE, "this build or this version does not do that")                                             \
  X(BAD_ADDRESS, 16, USAGE, "the address does not parse or does not resolve")                                          \
  X(NOT_FINITE, 17, USAGE, "a contribution has a NaN or an infinity in it")                                            \
  X(NO_MAJORITY, 18, USAGE, "no version of the shared state is recorded or held by more than half of the voters")      \
  X(TIMEOUT, 30, RETRY, "the deadline passed")                                                                         \
  X(CANCELLED, 31, RETRY, "the call was cancelled")                                                                    \
  X(TOO_FEW, 32, RETRY, "fewer members than the operation asks for")                                                   \
  X(PEER_LOST, 40, PEER_LOST, "a peer was lost during the operation; the rest are ready for the next call")            \
  X(NO_COORDINATOR, 50, COORDINATOR, "no coordinator answers at any of the addresses")                                 \
  X(NOT_A_COORDINATOR, 51, COORDINATOR, "what answers at the address is not a Hawser coordinator")                     \
  X(VERSION_MISMATCH, 52, COORDINATOR, "the two ends speak different versions of the wire format")                     \
  X(REFUSED, 53, COORDINATOR, "the coordinator refused this peer")                                                     \
  X(EXPELLED, 60, MEMBERSHIP, "this peer is not in the group's current view; join again")                              \
  X(ABORTED, 61, MEMBERSHIP, "hawser_comm_abort or hawser_comm_leave ended this communicator")                         \
  X(RESOURCE, 70, RESOURCE, "out of memory, descriptors, threads or another resource of the system")                   \
  X(ADDRESS_IN_USE, 71, RESOURCE, "the address to listen on is taken or is not of this machine")                       \
  X(DIVERGED, 80, INTERNAL, "members finished with different results")                                                 \
  X(INTERNAL, 90, INTERNAL, "an internal error of the library")

typedef enum hawser_status {
#define HAWSER_STATUS_ENUM_(name, value, category, sentence) HAWSER_##name = (value),
  HAWSER_STATUS_LIST(HAWSER_STATUS_ENUM_)
#undef HAWSER_STATUS_ENUM_
} hawser_status_t;

typedef enum hawser_category {
  HAWSER_CATEGORY_NONE = 0,
  HAWSER_CATEGORY_USAGE = 1,
  HAWSER_CATEGORY_RETRY = 2,
  HAWSER_CATEGORY_PEER_LOST = 3,
  HAWSER_CATEGORY_COORDINATOR = 4,
  HAWSER_CATEGORY_MEMBERSHIP = 5,
  HAWSER_CATEGORY_RESOURCE = 6,
  HAWSER_CATEGORY_INTERNAL = 7
} hawser_category_t;

#endif
