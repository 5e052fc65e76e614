/* Hawser: fault-tolerant collective communication. The whole stable C API (C99).
 *
 * The shortest complete use, error handling left out:
 *
 *   hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
 *   config.coordinators = "10.0.0.1:4900";
 *   config.min_size = 2;
 *   hawser_comm_t *comm;
 *   hawser_comm_create(&config, &comm);
 *   hawser_comm_join(comm, 0);                        // blocks until two peers are there
 *   for (int step = 0; step < steps; ++step) {
 *     hawser_comm_admit(comm, 0);                     // lets waiting newcomers in; free when nobody waits
 *     hawser_all_reduce(comm, grad, grad, n, HAWSER_F32, HAWSER_AVG, NULL, NULL);
 *   }
 *   hawser_comm_leave(comm, 0);
 *   hawser_comm_destroy(comm);
 *
 * Rules for every call
 *   Status    HAWSER_OK or a code of hawser_errors.h; hawser_last_error() has the sentence: who, where, what to change.
 *   Outputs   come last, end in _out, and are written only on success unless a call says otherwise.
 *   Structs   filled by callers begin with their size; start from the _INIT macro. Older and newer sizes are accepted:
 *             fields that the caller's size lacks take their defaults; non-zero bytes beyond what this library knows are
 *             UNSUPPORTED.
 *   Threads   every call may be made from any thread at any time, unless it says otherwise.
 *   Handles   a NULL or destroyed handle is HAWSER_INVALID_HANDLE, never undefined behaviour.
 *   Deadlines every blocking call takes timeout_ms; 0 means the default of the configuration. No call waits for ever.
 */
#ifndef HAWSER_H
#define HAWSER_H

#include <stddef.h>
#include <stdint.h>

#include <hawser/hawser_errors.h>
#include <hawser/hawser_version.h>

#if defined(HAWSER_STATIC)
#define HAWSER_API
#elif defined(__GNUC__)
#define HAWSER_API __attribute__((visibility("default")))
#else
#define HAWSER_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------- version and errors */

/** The version of the library that is loaded, as HAWSER_VERSION_NUMBER counts. Threads: any; never fails. */
HAWSER_API uint32_t hawser_version(void);

/** The name of a status, such as "PEER_LOST"; "UNKNOWN" for a value that is none. Static storage. */
HAWSER_API const char *hawser_status_name(hawser_status_t status);

/** The general sentence of a status. Static storage; never NULL. */
HAWSER_API const char *hawser_status_string(hawser_status_t status);

/** What a caller should do about a status. */
HAWSER_API hawser_category_t hawser_status_category(hawser_status_t status);

/** This thread's last failure as one sentence that names the peer, the address, the argument or the setting.
 *  Lifetime  until this thread's next call into the library; "" when nothing failed yet. Never NULL. */
HAWSER_API const char *hawser_last_error(void);

/** The build, the processor and what was found at run time, as one JSON object. Static storage. */
HAWSER_API const char *hawser_build_info(void);

/* ------------------------------------------------------------------------------------------------------- coordinator */

/** The membership service of a run: it orders views and carries no tensor data. */
typedef struct hawser_coordinator hawser_coordinator_t;

typedef struct hawser_coordinator_config {
  size_t size;              /**< sizeof(hawser_coordinator_config_t) */
  const char *listen;       /**< "HOST:PORT", "[V6]:PORT", ":PORT"; port 0: the kernel chooses. Default "127.0.0.1:0". */
  uint32_t heartbeat_ms;    /**< heartbeat interval, 0 = 1000; both ends of every control connection use it */
  uint32_t peer_timeout_ms; /**< silence after which a peer is lost, 0 = 6 x heartbeat; at least 2 x heartbeat, at least 100 */
  uint32_t peers_max;       /**< most peers of the run, members and waiting ones together, 0 = 1024 */
  uint32_t reserved;        /**< 0 */
  /** Directory of the view log. Every view is on the disk before it is announced, and a coordinator that is started with
   *  the same directory goes on where the last one ended. NULL: views are kept in memory only. */
  const char *log_dir;
  /** Other coordinators, "HOST:PORT,...", that stand before this one in the members' lists: this one is a standby. It leads
   *  groups whose members come to it, and forms no new ones. NULL: this is the first. */
  const char *standby_of;
  /** "http://HOST:PORT,...": views are kept in this etcd (3.4 or newer), and of all coordinators that name it the one that
   *  holds its leader key leads. Not together with log_dir. NULL: none. */
  const char *etcd;
  const char *etcd_prefix; /**< in front of all keys, NULL = "hawser/"; another one for every run */
} hawser_coordinator_config_t;
#define HAWSER_COORDINATOR_CONFIG_INIT {sizeof(hawser_coordinator_config_t), NULL, 0, 0, 0, 0, NULL, NULL, NULL, NULL}

/** Starts a coordinator on a thread of its own; it accepts peers when the call returns.
 *  Lifetime  until hawser_coordinator_destroy. The config is copied.
 *  Errors    BAD_ADDRESS: listen does not parse or resolve; ADDRESS_IN_USE; RESOURCE: memory, threads, or the log directory
 *            cannot be made, written or locked; INVALID_ARGUMENT; INTERNAL: the log is damaged, see
 *            hawser_coordinator_repair_log. An etcd that does not answer is no error: the coordinator waits for it. */
HAWSER_API hawser_status_t hawser_coordinator_start(const hawser_coordinator_config_t *config,
                                                    hawser_coordinator_t **coordinator_out);

/** Cuts a damaged view log at the first record that cannot be read, and keeps the whole of it beside as *.damaged. Views
 *  after the damage are lost to the coordinator: members that know a newer one bring it, if most of them come.
 *  Shapes    text: capacity bytes for a sentence about what was done, NUL-terminated; NULL: none is wanted.
 *  Errors    RESOURCE: the directory cannot be read or written, or a coordinator is using it; INVALID_ARGUMENT. */
HAWSER_API hawser_status_t hawser_coordinator_repair_log(const char *log_dir, char *text, size_t capacity);

/** The address it listens on, "IP:PORT" with the real port, for hawser_comm_config_t.coordinators.
 *  Shapes    buffer: capacity bytes; 64 are enough for every address. Always NUL-terminated on success.
 *  Errors    INVALID_ARGUMENT: buffer too small. */
HAWSER_API hawser_status_t hawser_coordinator_address(hawser_coordinator_t *coordinator, char *buffer, size_t capacity);

/** Asks the coordinator at an address, of this process or of another one, who is there: one JSON object {run, standby_of, up_ms,
 *  heartbeat_ms, peer_timeout_ms, peers, groups}. A group: {group, lineage, rule, leads, view, epoch, generation, waits_for,
 *  members, others}; rule: "alone", "quorum" or "arbiter"; waits_for: a sentence about what stands between this view and
 *  the next, or null. A member: {rank, name, id, address, state, heard_ms, why, ops, bytes_sent, bytes_received,
 *  ops_per_s, bytes_sent_per_s, bytes_received_per_s, slow_ms, waits_for}; state: "member", "away" (its connection ended), "leaving"
 *  or "lost"; waits_for: what an operation waits for that takes unusually long, or null; figures are those of its last
 *  heartbeat, rates since the one before. Others, who are no members yet: the first seven, state "greeted", "waiting" or "returning". More
 *  members may be added. Nobody is disturbed by it.
 *  Shapes    address: "HOST:PORT". json: capacity bytes, NUL-terminated on success; *bytes_out: the bytes it takes, that one
 *            included, also where capacity is too small (then ask again: there may be more by then).
 *  Units     timeout_ms, 0 = 5000.
 *  Errors    NO_COORDINATOR: nothing listens there, no answer in time, or it says that another one leads;
 *            NOT_A_COORDINATOR, VERSION_MISMATCH, BAD_ADDRESS, RESOURCE; INVALID_ARGUMENT: capacity too small, NULL. */
HAWSER_API hawser_status_t hawser_coordinator_report(const char *address, uint32_t timeout_ms, char *json, size_t capacity,
                                                     size_t *bytes_out);

/** Asks the coordinator to end: connections are closed, members go on without it. Does not wait.
 *  Threads   any; also safe in a signal handler. */
HAWSER_API hawser_status_t hawser_coordinator_stop(hawser_coordinator_t *coordinator);

/** Waits until the coordinator has ended (after hawser_coordinator_stop, or by a failure of its own).
 *  Units     timeout_ms; UINT32_MAX = no limit, since waiting is what a coordinator process does.
 *  Errors    PENDING: still running when the time was over. */
HAWSER_API hawser_status_t hawser_coordinator_wait(hawser_coordinator_t *coordinator, uint32_t timeout_ms);

/** Stops if needed, waits, frees. The handle is invalid afterwards. */
HAWSER_API hawser_status_t hawser_coordinator_destroy(hawser_coordinator_t *coordinator);

/* ------------------------------------------------------------------------------------------------------ communicator */

/** One peer's end of a group. */
typedef struct hawser_comm hawser_comm_t;

/** 128 random bits, made when a communicator is created. */
typedef struct hawser_peer_id {
  uint8_t bytes[16];
} hawser_peer_id_t;

/** What happens to an operation when a participant is lost in the middle. */
typedef enum hawser_policy {
  HAWSER_POLICY_DEFAULT = 0, /**< of an operation: the communicator's; of a communicator: RETRY */
  HAWSER_POLICY_RETRY = 1,   /**< run it again among the survivors inside the call; the info says who took part */
  HAWSER_POLICY_STRICT = 2   /**< return PEER_LOST at every survivor, inputs as they were */
} hawser_policy_t;

/** What carries the data between two peers. */
typedef enum hawser_transport {
  HAWSER_TRANSPORT_AUTO = 0, /**< shared memory between peers of one host that may look into one another (the same user, the
                                  same container), beside a TCP connection that notices the end of either; else TCP */
  HAWSER_TRANSPORT_TCP = 1   /**< TCP always */
} hawser_transport_t;

typedef struct hawser_comm_config {
  size_t size;              /**< sizeof(hawser_comm_config_t) */
  const char *coordinators; /**< "HOST:PORT[,HOST:PORT...]", the same list for all peers; NULL: the environment variable
                                 HAWSER_COORDINATORS. One: it decides alone. Several: tried in order; those after the
                                 first are standbys, and a majority of the members must agree to every view */
  const char *name;         /**< shown to others in logs and errors, at most 64 bytes of UTF-8; NULL: "HOST/PID" */
  uint32_t group;           /**< peers of equal group compute together; groups never wait for one another */
  uint32_t min_size;        /**< members that must be there before a new group starts, 0 = 1 */
  uint32_t strands;         /**< TCP connections to each ring neighbour, 0: as many as help; at most 64 */
  uint32_t io_threads;      /**< threads that move bulk data, 0 = one per 2 cores, at most 4; one more moves what is
                                 small */
  const char *listen;       /**< address for connections of other peers, "HOST" or "HOST:PORT"; NULL: every local address,
                                 or loopback only when the coordinator is reached over loopback and listens only there */
  const char *advertise;    /**< address that others dial, "HOST" or "HOST:PORT"; NULL: the address this peer's connection
                                 to the coordinator comes from, and the port it listens on */
  const char *port_range;   /**< "FIRST-LAST" for `listen` without a port; NULL: HAWSER_PORT_RANGE, else the kernel chooses */
  uint32_t join_timeout_ms; /**< default of hawser_comm_join, _admit and _leave, 0 = 60000 */
  uint32_t op_timeout_ms;   /**< default deadline of an operation, 0 = 60000 */
  uint32_t policy;          /**< a hawser_policy_t */
  uint32_t reserved;        /**< 0 */
  uint32_t straggler_ms;    /**< 0: members that are slow to enter an operation are waited for until its deadline. Else: one
                                 that has not entered an operation this long after this peer did is removed from the group,
                                 and the others go on without it. Each member may have its own value; the least that is
                                 not 0 holds */
  uint32_t transport;       /**< a hawser_transport_t */
} hawser_comm_config_t;
#define HAWSER_COMM_CONFIG_INIT \
  {sizeof(hawser_comm_config_t), NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}

/** Makes a communicator. Nothing is connected yet.
 *  Lifetime  until hawser_comm_destroy. The config is copied.
 *  Errors    INVALID_ARGUMENT: names the field; BAD_ADDRESS: coordinators, listen, advertise or port_range does not parse. */
HAWSER_API hawser_status_t hawser_comm_create(const hawser_comm_config_t *config, hawser_comm_t **comm_out);

/** Connects to the coordinator and waits until this peer is a member of its group: at once when the group is new and has
 *  min_size peers, else at the members' next admission point.
 *  Units     timeout_ms, 0 = config.join_timeout_ms.
 *  Errors    TIMEOUT: the sentence says what is missing (coordinator silent, too few peers, members do not call
 *            hawser_comm_admit, a peer that cannot be connected); NO_COORDINATOR: nothing answers at any address;
 *            NOT_A_COORDINATOR; VERSION_MISMATCH; REFUSED; BAD_ADDRESS: a name does not resolve; ADDRESS_IN_USE;
 *            ALREADY_MEMBER; ABORTED. After a failure the call may be made again, except after ABORTED. */
HAWSER_API hawser_status_t hawser_comm_join(hawser_comm_t *comm, uint32_t timeout_ms);

/** An admission point: every member calls it at the same place of its program, as in each training step. When newcomers
 *  wait, the members agree on a common point and the call returns there in the new view; when nobody waits, it returns at
 *  once and sends nothing. A newcomer is let in at such a point; if this is its first call after hawser_comm_join, before any
 *  operation, it is that same point and returns at once, so a loop that begins with hawser_comm_admit serves both.
 *  Threads   one thread of a communicator at a time; operations of other threads go on.
 *  Errors    NOT_MEMBER; EXPELLED; ABORTED; TIMEOUT: the others did not come to their admission point; the call counts as
 *            not made and may be repeated. */
HAWSER_API hawser_status_t hawser_comm_admit(hawser_comm_t *comm, uint32_t timeout_ms);

/** The view that is installed here. */
typedef struct hawser_view {
  size_t size;         /**< sizeof(hawser_view_t) */
  uint64_t number;     /**< grows with every change of membership; the same number is the same view everywhere */
  uint32_t rank;       /**< this peer's place, 0 <= rank < world_size */
  uint32_t world_size; /**< members of the group in this view */
} hawser_view_t;
#define HAWSER_VIEW_INIT {sizeof(hawser_view_t), 0, 0, 0}

/** Writes the current view. Errors: NOT_MEMBER, EXPELLED, ABORTED. */
HAWSER_API hawser_status_t hawser_comm_view(hawser_comm_t *comm, hawser_view_t *view_out);

typedef struct hawser_member {
  size_t size;         /**< sizeof(hawser_member_t) */
  hawser_peer_id_t id; /**< identity of the peer */
  char name[72];       /**< its configured name, NUL-terminated */
  char address[72];    /**< "IP:PORT" it is dialled at, NUL-terminated */
} hawser_member_t;
#define HAWSER_MEMBER_INIT {sizeof(hawser_member_t), {{0}}, {0}, {0}}

/** Describes the member with this rank in the current view. Errors: INVALID_ARGUMENT: no such rank; NOT_MEMBER. */
HAWSER_API hawser_status_t hawser_comm_member(hawser_comm_t *comm, uint32_t rank, hawser_member_t *member_out);

/** Leaves in order: waits for this peer's open operations, tells the coordinator, closes. The others lose nothing.
 *  Errors    NOT_MEMBER; TIMEOUT: operations were still open, and this peer is a member as before; or it left without a
 *            coordinator's answer: the sentence says which. After leaving every call but _destroy is ABORTED. */
HAWSER_API hawser_status_t hawser_comm_leave(hawser_comm_t *comm, uint32_t timeout_ms);

/** Ends the communicator now: every call in it, in any thread, returns ABORTED soon; the others see a lost peer. */
HAWSER_API hawser_status_t hawser_comm_abort(hawser_comm_t *comm);

/** Aborts if needed, waits for calls of other threads to return, frees everything. Open hawser_op_t of this communicator
 *  end with ABORTED and must still be released. */
HAWSER_API hawser_status_t hawser_comm_destroy(hawser_comm_t *comm);

/* ------------------------------------------------------------------------------------------- types of the operations */

typedef enum hawser_dtype {
  HAWSER_U8 = 0,
  HAWSER_I8 = 1,
  HAWSER_U16 = 2,
  HAWSER_I16 = 3,
  HAWSER_U32 = 4,
  HAWSER_I32 = 5,
  HAWSER_U64 = 6,
  HAWSER_I64 = 7,
  HAWSER_F16 = 8,  /**< IEEE 754 binary16; sums and products are accumulated in f32 and rounded once */
  HAWSER_BF16 = 9, /**< upper half of an f32; accumulated in f32 and rounded once, to nearest even */
  HAWSER_F32 = 10,
  HAWSER_F64 = 11
} hawser_dtype_t;

/** Bytes of one element, 0 for a value that is no hawser_dtype_t. */
HAWSER_API size_t hawser_dtype_size(hawser_dtype_t dtype);

/** Integers wrap around (two's complement). min and max of floating point: a NaN in any input gives NaN; -0 is less than
 *  +0. avg is the sum divided by the number of participants; for integers the quotient is truncated towards zero. */
typedef enum hawser_redop {
  HAWSER_SUM = 0,
  HAWSER_AVG = 1,
  HAWSER_PROD = 2,
  HAWSER_MIN = 3,
  HAWSER_MAX = 4
} hawser_redop_t;

/* -------------------------------------------------------------------------------------------------------- compression */

/** How the bytes of a floating-point all-reduce are made fewer. The values are on the wire and never change.
 *  docs/compression.md has formulas, bytes per element and errors of each. */
typedef enum hawser_codec {
  HAWSER_CODEC_NONE = 0,   /**< not compressed */
  HAWSER_CODEC_BF16 = 1,   /**< 2 bytes: the upper half of an f32 */
  HAWSER_CODEC_F16 = 2,    /**< 2 bytes: IEEE 754 binary16; beyond +-65504 it overflows to infinity */
  HAWSER_CODEC_INT8 = 3,   /**< block-wise symmetric: 1 byte and an f32 scale a block */
  HAWSER_CODEC_INT4 = 4,   /**< block-wise symmetric: half a byte and an f32 scale a block */
  HAWSER_CODEC_MINMAX8 = 5 /**< block-wise between minimum and maximum: 1 byte and two f32 a block */
} hawser_codec_t;

typedef enum hawser_rounding {
  HAWSER_ROUND_NEAREST = 0,   /**< to nearest, ties to even */
  HAWSER_ROUND_STOCHASTIC = 1 /**< up or down at random so that the expectation is exact; counter-based random numbers
                                   (Philox4x32-10), independent between peers and elements */
} hawser_rounding_t;

/** What compression leaves out of one peer's contributions, kept to be added to the next one (error feedback). */
typedef struct hawser_residual hawser_residual_t;

typedef struct hawser_compression {
  size_t size;                 /**< sizeof(hawser_compression_t) */
  uint32_t codec;              /**< a hawser_codec_t; equal at all members */
  uint32_t block;              /**< elements of a block, a power of two from 32 to 4096; 0: int8 and minmax8 256, int4 64;
                                    must be 0 for bf16 and f16. Equal at all members */
  uint32_t rounding;           /**< a hawser_rounding_t; equal at all members */
  uint32_t reserved;           /**< 0 */
  uint64_t seed;               /**< of stochastic rounding, mixed with the peer's identity and the operation's number */
  hawser_residual_t *residual; /**< error feedback of this peer, NULL: none; lent until the operation has ended */
  double residual_decay;       /**< the residual is multiplied by this before it is added, 0 = 1; at most 1 */
} hawser_compression_t;
#define HAWSER_COMPRESSION_INIT {sizeof(hawser_compression_t), 0, 0, 0, 0, 0, NULL, 0.0}

/** Makes a residual of `count` elements (f32), all zero. It changes only when an operation that was given it commits; after
 *  a failure, a rerun or a restore it is what it was.
 *  Threads   one operation at a time may use it.
 *  Errors    INVALID_ARGUMENT; RESOURCE. */
HAWSER_API hawser_status_t hawser_residual_create(size_t count, hawser_residual_t **residual_out);
/** Copies the `count` elements out, or in: for checkpoints. Errors: INVALID_ARGUMENT: another count, or in use. */
HAWSER_API hawser_status_t hawser_residual_read(hawser_residual_t *residual, float *values_out, size_t count);
HAWSER_API hawser_status_t hawser_residual_write(hawser_residual_t *residual, const float *values, size_t count);
HAWSER_API hawser_status_t hawser_residual_destroy(hawser_residual_t *residual);

/** Bytes that `count` elements take when encoded with this compression; 0 when the compression is not valid. */
HAWSER_API size_t hawser_compressed_bytes(const hawser_compression_t *compression, size_t count);

/** One collective in flight. */
typedef struct hawser_op hawser_op_t;

typedef enum hawser_op_flag {
  HAWSER_OP_UNIFORM = 1 /**< hawser_all_reduce_many only: all results under one membership, or none. Equal at all members */
} hawser_op_flag_t;

/** Asked by the thread that made a blocking call, about every 50 ms while it waits. Other than 0: the operation is cancelled
 *  as by hawser_op_cancel, and the question is asked again until it has ended. Of the calls with this communicator it may
 *  make hawser_comm_abort only. */
typedef int (*hawser_interrupted_t)(void *context);

typedef struct hawser_op_options {
  size_t size;               /**< sizeof(hawser_op_options_t) */
  uint64_t tag;              /**< 0: matched with the other members' untagged operations in call order; else with their
                                  operations of this tag, in the order of that tag */
  uint32_t timeout_ms;       /**< from the call, 0 = config.op_timeout_ms */
  uint32_t policy;           /**< a hawser_policy_t; equal at all members */
  int32_t priority;          /**< higher goes first where operations compete for a connection; -8..7 */
  uint32_t min_participants; /**< TOO_FEW, inputs untouched, when fewer members would take part; 0 = any */
  const hawser_compression_t *compression; /**< all_reduce with SUM or AVG of f32, f16 or bf16 only; NULL: none. Read
                                                during the call that starts the operation */
  double weight;    /**< weighted = 1: this peer's weight, finite and >= 0. 0 leaves its values out of the average; they are
                         not even looked at. weighted = 0: must be 0 */
  uint32_t weighted; /**< 1: AVG of f32, f16 or bf16 is the sum of weight x value divided by the sum of weights; all
                          members' weights 0: all zeros. Equal at all members */
  uint32_t flags;    /**< bits of hawser_op_flag_t */
  hawser_interrupted_t interrupted; /**< blocking collectives only; NULL: nobody is asked */
  void *interrupted_context;        /**< what it is given */
} hawser_op_options_t;
#define HAWSER_OP_OPTIONS_INIT {sizeof(hawser_op_options_t), 0, 0, 0, 0, 0, NULL, 0.0, 0, 0, NULL, NULL}

typedef struct hawser_op_info {
  size_t size;                      /**< sizeof(hawser_op_info_t) */
  uint64_t view;                    /**< number of the view in which the operation ended */
  uint32_t participants;            /**< members that took part in the committed attempt; avg divides by it */
  uint32_t attempts;                /**< 1 + the number of reruns after lost peers */
  uint64_t bytes_sent;              /**< payload bytes this peer sent, all attempts */
  uint64_t bytes_received;          /**< payload bytes this peer received, all attempts */
  uint64_t time_us;                 /**< from the start to the end of the operation */
  hawser_peer_id_t *participant_ids; /**< in: NULL, or room for participant_capacity ids; filled in rank order */
  uint32_t participant_capacity;    /**< in: ids that fit; more participants than that are left out of the array */
  uint32_t contributors;            /**< weighted: participants with a weight other than 0; else all participants */
  double total_weight;              /**< weighted: the sum of weights; else the number of participants */
  double *participant_weights;      /**< in: NULL, or room for participant_capacity weights; filled like the ids */
  uint32_t status;                  /**< the hawser_status_t it ended with */
  uint32_t runs;                    /**< times it was started: 1; of an item of a list also 0 or more than 1 */
} hawser_op_info_t;
#define HAWSER_OP_INFO_INIT {sizeof(hawser_op_info_t), 0, 0, 0, 0, 0, 0, NULL, 0, 0, 0.0, NULL, 0, 0}

/* ------------------------------------------------------------------------------------------------------- collectives */

/** Reduces `count` elements over all members; every member gets the same bits.
 *  Shapes    send, recv: count elements of dtype, aligned to the element; identical (in place) or disjoint, never partly
 *            overlapping. count may be 0 and need not divide by the world size.
 *  Lifetime  both buffers are lent until the call returns (for _start: until hawser_op_wait or _test gave a result).
 *  Threads   any. Operations without a tag match in call order: give tags when several threads start them.
 *  Units     options->timeout_ms: milliseconds from this call.
 *  Memory    out of place: O(chunk); in place: one copy of the data, taken as it is overwritten. For f16 and bf16 of three
 *            and more members, partial sums travel as f32. Compressed or weighted: the encoded vector twice, plain f32
 *            once, in place too. docs/architecture.md#memory.
 *  Errors    Inputs are as they were after every error. INVALID_ARGUMENT, INVALID_HANDLE, NOT_MEMBER: nothing started.
 *            PEER_LOST: strict policy only. MISMATCH: members disagree; the sentence says who and in what. TIMEOUT,
 *            CANCELLED, TOO_FEW, DIVERGED, EXPELLED, ABORTED, NO_COORDINATOR, RESOURCE: as in hawser_errors.h.
 *            On errors info_out is written too when the operation had started.
 *  Source    docs/protocol.md#operations; ring schedule: Patarasuk and Yuan, JPDC 69(2), 2009: 2(n-1) steps,
 *            2(n-1)/n x the bytes of the buffer sent and received per member. Compressed or weighted: direct exchange,
 *            the same factor of the encoded bytes, two latencies; docs/compression.md. */
HAWSER_API hawser_status_t hawser_all_reduce(hawser_comm_t *comm, const void *send, void *recv, size_t count,
                                             hawser_dtype_t dtype, hawser_redop_t redop,
                                             const hawser_op_options_t *options, hawser_op_info_t *info_out);

/** Starts hawser_all_reduce and returns; the result is ready after hawser_op_wait. The handle must be released. With
 *  compression the contribution is encoded before the call returns.
 *  Errors    as above. When the others decided the operation before this peer came to it (its deadline passed, it was
 *            cancelled, strict policy and a peer was lost), that outcome is returned here and there is no handle. */
HAWSER_API hawser_status_t hawser_all_reduce_start(hawser_comm_t *comm, const void *send, void *recv, size_t count,
                                                   hawser_dtype_t dtype, hawser_redop_t redop,
                                                   const hawser_op_options_t *options, hawser_op_t **op_out);

/** One tensor of a list. */
typedef struct hawser_many_item {
  size_t size;      /**< sizeof(hawser_many_item_t); the same in all items of a list */
  const void *send; /**< as of hawser_all_reduce */
  void *recv;
  size_t count;
  uint32_t dtype;   /**< a hawser_dtype_t */
  uint32_t redop;   /**< a hawser_redop_t */
  const hawser_compression_t *compression; /**< of this item, NULL: that of the options. A residual belongs to one item */
} hawser_many_item_t;
#define HAWSER_MANY_ITEM_INIT {sizeof(hawser_many_item_t), NULL, NULL, 0, HAWSER_F32, HAWSER_SUM, NULL}

/** How a list went as a whole. */
typedef struct hawser_many_info {
  size_t size;             /**< sizeof(hawser_many_info_t) */
  uint64_t view;           /**< greatest view number of its items */
  uint32_t uniform;        /**< 1: every item is committed, and all with the same participants; 0: read the items' infos */
  uint32_t participants;   /**< fewest of any committed item; 0: none is committed */
  uint32_t rounds;         /**< HAWSER_OP_UNIFORM: 1 + the times that items had to run again after a loss; else 1 */
  uint32_t attempts;       /**< most of any item */
  uint64_t items_committed; /**< items whose recv holds their result */
  uint64_t items_rerun;    /**< items that ran again in those rounds, each time counted */
  uint64_t first_failed;   /**< index of the item whose status the call returned; the number of items: none */
  uint64_t bytes_sent;     /**< payload bytes of all items, runs and attempts */
  uint64_t bytes_received;
  uint64_t time_us;        /**< of the whole call */
} hawser_many_info_t;
#define HAWSER_MANY_INFO_INIT {sizeof(hawser_many_info_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/** All-reduces of a list of tensors, a few at a time. Every member gives a list of the same length with the same counts,
 *  types and operations in the same order. When a member is lost in the middle, items that had committed have its
 *  contribution and later ones lack it: info_out->uniform is 0 then, and the infos of the items say which differ. With
 *  HAWSER_OP_UNIFORM that cannot be: results are kept back until all items have committed with the same participants, and
 *  those of a larger membership run again, within the call and from the same inputs; or the call fails as a whole.
 *  Shapes    items: `count` of them, may be 0. infos_out: NULL, or as many, each from its _INIT macro. Buffers as of
 *            hawser_all_reduce; what one item writes, no other may read or write.
 *  Lifetime  everything is lent until the call returns. There is no _start form: items beyond the first in_flight_max begin
 *            later, and operations started in between would be matched wrongly. To overlap, use hawser_all_reduce_start.
 *  Threads   any. Items are operations of options->tag in list order: until the call returns, other threads start nothing
 *            under that tag (0: nothing untagged) and pass no admission point.
 *  Units     in_flight_max: items at a time, 0 = 8, at most 1024; members may differ. options: of each item, but timeout_ms
 *            is of the whole call.
 *  Memory    that of in_flight_max operations. HAWSER_OP_UNIFORM: instead of their own copies, one copy of all in-place
 *            items together, and one vector of f32 more for each residual.
 *  Errors    The status is that of the first item in list order that failed; infos_out and info_out are written too when
 *            anything had started. An item is committed when its info has status OK; inputs of all others are as they were.
 *            One failure does not end the other items, but the deadline, a cancel and the end of the membership do.
 *            HAWSER_OP_UNIFORM: one failure ends all and nothing is committed; under the strict policy a loss between two
 *            items is PEER_LOST. INVALID_ARGUMENT names the item; nothing was started.
 *  Source    docs/protocol.md#lists. */
HAWSER_API hawser_status_t hawser_all_reduce_many(hawser_comm_t *comm, const hawser_many_item_t *items, size_t count,
                                                  size_t in_flight_max, const hawser_op_options_t *options,
                                                  hawser_op_info_t *infos_out, hawser_many_info_t *info_out);

/** Copies `count` elements from the member with rank `root` to all. `send` is read at the root only, `recv` is written at
 *  all (at the root too, unless send == recv); NULL is allowed for what is not used. When the root is lost before the
 *  operation ends, all survivors get PEER_LOST under either policy: nobody else has its data.
 *  Steps     a pipeline along the ring: the root's bytes cross every edge but one once. Otherwise as hawser_all_reduce. */
HAWSER_API hawser_status_t hawser_broadcast(hawser_comm_t *comm, const void *send, void *recv, size_t count,
                                            hawser_dtype_t dtype, uint32_t root, const hawser_op_options_t *options,
                                            hawser_op_info_t *info_out);
HAWSER_API hawser_status_t hawser_broadcast_start(hawser_comm_t *comm, const void *send, void *recv, size_t count,
                                                  hawser_dtype_t dtype, uint32_t root,
                                                  const hawser_op_options_t *options, hawser_op_t **op_out);

/** Returns when every member of the view has entered it. One one-way latency. */
HAWSER_API hawser_status_t hawser_barrier(hawser_comm_t *comm, const hawser_op_options_t *options,
                                          hawser_op_info_t *info_out);
HAWSER_API hawser_status_t hawser_barrier_start(hawser_comm_t *comm, const hawser_op_options_t *options,
                                                hawser_op_t **op_out);

/* -------------------------------------------------------------------------------------------------------- operations */

/** Waits for the operation and gives its result; info_out may be NULL.
 *  Units     timeout_ms of this wait, 0 = as long as the operation's own deadline lasts.
 *  Errors    PENDING: the wait's time was over first; the operation goes on. Otherwise the operation's result, the same
 *            however often it is asked for. */
HAWSER_API hawser_status_t hawser_op_wait(hawser_op_t *op, uint32_t timeout_ms, hawser_op_info_t *info_out);

/** The result if there is one, else PENDING. Never waits; of a compressed or weighted operation, the first call that finds a
 *  result decodes it into recv, as hawser_op_wait does. */
HAWSER_API hawser_status_t hawser_op_test(hawser_op_t *op, hawser_op_info_t *info_out);

/** Asks that the operation end. It ends with CANCELLED at every member, unless this peer already holds the result: then
 *  it ends as the others decide. Does not wait. */
HAWSER_API hawser_status_t hawser_op_cancel(hawser_op_t *op);

/** Frees the handle. An operation that is still running is cancelled and waited for first, so the buffers are the
 *  caller's again when this returns. */
HAWSER_API hawser_status_t hawser_op_release(hawser_op_t *op);

/* ------------------------------------------------------------------------------------------------------ shared state */

/** Named tensors that are to be the same on all members, with a revision number. docs/shared-state.md. */
typedef struct hawser_state hawser_state_t;

/** What this peer lets a sync do. */
typedef enum hawser_strategy {
  HAWSER_SYNC_AGREE = 0,       /**< has a vote unless it is a newcomer, and takes over what is decided */
  HAWSER_SYNC_SEND_ONLY = 1,   /**< has a vote; its tensors are never written: MISMATCH when they would have to be */
  HAWSER_SYNC_RECEIVE_ONLY = 2 /**< has no vote and is no source; takes over what is decided */
} hawser_strategy_t;

typedef enum hawser_decision {
  HAWSER_DECIDED_BY_RECORD = 0,   /**< the content recorded at the last sync or check of this revision */
  HAWSER_DECIDED_BY_MAJORITY = 1, /**< the revision and content of more than half of the members that have a vote */
  HAWSER_DECIDED_UNANIMOUS = 2    /**< all members that have a vote held the same */
} hawser_decision_t;

typedef struct hawser_sync_info {
  size_t size;              /**< sizeof(hawser_sync_info_t) */
  uint64_t view;            /**< number of the view in which it ended */
  uint32_t participants;    /**< members that took part */
  uint32_t attempts;        /**< 1 + the number of reruns after lost peers */
  uint32_t decision;        /**< a hawser_decision_t */
  uint32_t tensors_changed; /**< tensors written here */
  uint32_t sources;         /**< members that sent blocks to this one */
  uint32_t behind;          /**< members whose content or revision was another than the decided one, newcomers among them */
  uint64_t revision;        /**< decided, and this peer's from now on */
  uint64_t blocks;          /**< of the whole state */
  uint64_t blocks_received; /**< here; only blocks that differ travel */
  uint64_t bytes_received;  /**< of blocks, here */
  uint64_t bytes_sent;      /**< of blocks, from here to others */
  uint64_t hash_us;         /**< spent hashing this peer's tensors */
  uint64_t time_us;         /**< of the whole call */
  uint8_t root[16];         /**< Merkle root of the decided content (XXH3-128) */
} hawser_sync_info_t;
#define HAWSER_SYNC_INFO_INIT {sizeof(hawser_sync_info_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}}

/** Makes an empty state with revision 0. Belongs to no communicator: the same one may be used again after a rejoin. */
HAWSER_API hawser_status_t hawser_state_create(hawser_state_t **state_out);

/** Adds a tensor. Order, names, types and counts must be the same on all members when they sync.
 *  Shapes    data: count elements of dtype, aligned to the element; count may be 0. name: 1 to 255 bytes of UTF-8, unique.
 *  Lifetime  data is lent until hawser_state_destroy, and read and written during hawser_state_sync only.
 *  Errors    INVALID_ARGUMENT; RESOURCE: more than 65536 tensors, or a description of more than 4 MiB. */
HAWSER_API hawser_status_t hawser_state_add_tensor(hawser_state_t *state, const char *name, void *data, size_t count,
                                                   hawser_dtype_t dtype);

/** Says that a tensor now lives elsewhere, with the same count and type. Errors: INVALID_ARGUMENT: no such name. */
HAWSER_API hawser_status_t hawser_state_move_tensor(hawser_state_t *state, const char *name, void *data);

/** The revision: set by whoever changes the content in the same way on all members, by the same number there. A sync takes
 *  over the decided one. */
HAWSER_API hawser_status_t hawser_state_set_revision(hawser_state_t *state, uint64_t revision);
HAWSER_API hawser_status_t hawser_state_revision(hawser_state_t *state, uint64_t *revision_out);

/** Makes the state the same on all members; every member calls it at the same place of its program.
 *  Rule      newcomers (no sync of this state yet in this membership, while others had one) and receive-only members have no
 *            vote. When a voter holds what the last sync recorded and no voter has a higher revision, the record decides;
 *            else revision and content of more than half of the voters. Nothing such: NO_MAJORITY.
 *  Transfer  blocks of 256 KiB that differ, from all members that hold the decided content; each is checked against its
 *            hash before use. Tensors are written when every block is here and every member is ready: on every error they
 *            are as they were, at all members. Members may be lost meanwhile, sources too.
 *  Memory    the blocks that differ, once.
 *  Units     options: tag, timeout_ms, policy, priority as for every operation; the rest must be 0. NULL: defaults.
 *  Errors    MISMATCH: layouts differ (the sentence names tensor, difference and peers), or a send-only member would have to
 *            change; NO_MAJORITY; TIMEOUT, PEER_LOST (strict, or no source is left) and the rest as hawser_all_reduce. */
HAWSER_API hawser_status_t hawser_state_sync(hawser_comm_t *comm, hawser_state_t *state, hawser_strategy_t strategy,
                                             const hawser_op_options_t *options, hawser_sync_info_t *info_out);

/** Compares the roots and moves nothing: OK when all members hold the same revision and content, which is then recorded;
 *  info_out->behind is 0. Else DIVERGED: the sentence names who differs. Otherwise as hawser_state_sync. */
HAWSER_API hawser_status_t hawser_state_check(hawser_comm_t *comm, hawser_state_t *state,
                                              const hawser_op_options_t *options, hawser_sync_info_t *info_out);

HAWSER_API hawser_status_t hawser_state_destroy(hawser_state_t *state);

/* -------------------------------------------------------------------------------------------------------- outer steps */

/** An outer optimizer of the DiLoCo family (arXiv 2311.08105): peers train on their own for H steps, then average what they
 *  have moved. It owns the anchor (the parameters all members agreed on last) and the momentum, which are shared state.
 *  docs/outer-steps.md has the formulas. */
typedef struct hawser_outer hawser_outer_t;

/** A parameter tensor of the inner optimizer. */
typedef struct hawser_outer_param {
  size_t size;      /**< sizeof(hawser_outer_param_t) */
  const char *name; /**< 1 to 240 bytes of UTF-8, unique */
  void *data;       /**< count elements, aligned to the element; lent until hawser_outer_destroy; read and written only
                         during calls on the handle */
  size_t count;
  uint32_t dtype;    /**< F32, BF16 or F16; the anchor is f32 in each case */
  uint32_t reserved; /**< 0 */
} hawser_outer_param_t;
#define HAWSER_OUTER_PARAM_INIT {sizeof(hawser_outer_param_t), NULL, NULL, 0, HAWSER_F32, 0}

/** What becomes of a contribution with a NaN or an infinity in it. */
typedef enum hawser_non_finite {
  HAWSER_NON_FINITE_LEAVE_OUT = 0, /**< that peer's contribution has weight 0 in this round; infos say so */
  HAWSER_NON_FINITE_FAIL = 1       /**< the round ends with NOT_FINITE at every member, nothing changed */
} hawser_non_finite_t;

typedef struct hawser_outer_config {
  size_t size;          /**< sizeof(hawser_outer_config_t) */
  double lr;            /**< outer learning rate, default 0.7; finite and > 0 */
  double momentum;      /**< default 0.9; 0 <= momentum < 1 */
  uint32_t nesterov;    /**< 1 (default): anchor -= lr (d + momentum v) with v <- momentum v + d; 0: anchor -= lr v */
  uint32_t delayed;     /**< 1: the average of a round is applied at the end of the next, so that communication overlaps with
                             computing; use a smaller momentum then, such as 0 */
  uint32_t non_finite;  /**< a hawser_non_finite_t */
  uint32_t error_feedback; /**< 1: what compression leaves out is kept and added in the next round */
  const hawser_compression_t *compression; /**< NULL: f32; its residual must be NULL. Read by hawser_outer_create */
  uint64_t tag;         /**< of the operations it starts, 0: untagged */
  uint32_t timeout_ms;  /**< of each operation, 0: the communicator's */
  uint32_t manual_admission; /**< 0: every step ends with an admission point and, when newcomers came, a sync; 1: the caller
                                  calls hawser_comm_admit and hawser_outer_sync itself */
} hawser_outer_config_t;
#define HAWSER_OUTER_CONFIG_INIT {sizeof(hawser_outer_config_t), 0.7, 0.9, 1, 0, 0, 0, NULL, 0, 0, 0}

typedef struct hawser_outer_info {
  size_t size;             /**< sizeof(hawser_outer_info_t) */
  uint64_t round;          /**< rounds that are part of the anchor now */
  uint64_t view;           /**< number of the view in which the round's average ended; 0: none was applied */
  uint32_t participants;   /**< of that average */
  uint32_t contributors;   /**< of them, with a weight other than 0 */
  uint32_t left_out;       /**< of them, left out because of values that are not finite */
  uint32_t attempts;       /**< 1 + reruns after lost peers */
  uint32_t self_left_out;  /**< 1: this peer is one of those left out */
  uint32_t synced;         /**< 1: newcomers came at the end of this call and the state was synced */
  double total_weight;
  double delta_norm;       /**< L2 norm of this peer's pseudo-gradient in this call; NaN when it was not finite */
  uint64_t bytes_sent;     /**< of the average that was applied, all attempts */
  uint64_t bytes_received;
  uint64_t wait_us;        /**< this call waited for the network */
} hawser_outer_info_t;
#define HAWSER_OUTER_INFO_INIT {sizeof(hawser_outer_info_t), 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0, 0, 0}

/** Makes an outer optimizer over these parameters; the anchor is their present value, the momentum 0, the round 0. Sends
 *  nothing. Parameters and configuration must be the same on all members: else the first call that meets says MISMATCH.
 *  Memory    4 + 4 bytes a parameter (anchor, momentum), 4 more while a round is in flight, delayed: 4 more,
 *            error_feedback: 4 more. */
HAWSER_API hawser_status_t hawser_outer_create(hawser_comm_t *comm, const hawser_outer_param_t *params,
                                               size_t param_count, const hawser_outer_config_t *config,
                                               hawser_outer_t **outer_out);

/** Makes anchor, momentum and round the same on all members and sets the parameters to the anchor. Every member's first
 *  call after hawser_outer_create, founders and newcomers alike: while no round was made anywhere, the first member's parameters
 *  are everyone's; later the members' decide and newcomers take over. Later on steps do it by themselves when newcomers come.
 *  info_out may be NULL. Errors: as hawser_state_sync. */
HAWSER_API hawser_status_t hawser_outer_sync(hawser_outer_t *outer, hawser_sync_info_t *info_out);

/** One round, at the same place of every member's program, after its inner steps: the pseudo-gradient (anchor - parameters)
 *  is averaged over all members, the anchor makes an outer step and the parameters are set to it. Delayed: the average of
 *  the round before is waited for and applied, and this round's is started. Then an admission point.
 *  Units     weight: of this peer's contribution, such as the number of its inner steps or samples; finite and >= 0; equal
 *            weights give the plain average.
 *  Errors    On every error anchor, momentum, residuals and parameters are as they were, the round may be tried again. The
 *            round's outcome is the same at all survivors. NOT_FINITE: under NON_FINITE_FAIL. If the round itself was made
 *            and only the admission or sync at its end failed, the sentence says so: call hawser_outer_sync. */
HAWSER_API hawser_status_t hawser_outer_step(hawser_outer_t *outer, double weight, hawser_outer_info_t *info_out);

/** The two halves of hawser_outer_step for those who overlap by themselves; not for delayed handles, but for _finish at the
 *  end of training, which applies the average that is still in flight. begin takes a copy of the pseudo-gradient and
 *  starts to average it; finish waits, makes the outer step and sets the parameters, whatever was done to them since.
 *  Errors    INVALID_ARGUMENT: begin twice, finish without begin (a delayed handle with nothing in flight: OK). */
HAWSER_API hawser_status_t hawser_outer_begin(hawser_outer_t *outer, double weight);
HAWSER_API hawser_status_t hawser_outer_finish(hawser_outer_t *outer, hawser_outer_info_t *info_out);

/** Says that a parameter now lives elsewhere. Errors: INVALID_ARGUMENT: another count or type, no such name. */
HAWSER_API hawser_status_t hawser_outer_move_param(hawser_outer_t *outer, const hawser_outer_param_t *param);

typedef enum hawser_outer_tensor_kind {
  HAWSER_OUTER_ANCHOR = 0,
  HAWSER_OUTER_MOMENTUM = 1,
  HAWSER_OUTER_PENDING = 2 /**< delayed: the average that is to be applied next, zeros when none is */
} hawser_outer_tensor_kind_t;

/** Copies a tensor of the handle's state for the parameter with this index out, or in (checkpoints; then every member must
 *  write the same). Waits for what is in flight. */
HAWSER_API hawser_status_t hawser_outer_read(hawser_outer_t *outer, hawser_outer_tensor_kind_t kind, size_t index,
                                             float *values_out, size_t count);
HAWSER_API hawser_status_t hawser_outer_write(hawser_outer_t *outer, hawser_outer_tensor_kind_t kind, size_t index,
                                              const float *values, size_t count);
/** Rounds made, and whether an average is pending (delayed). set: with hawser_outer_write, from a checkpoint. */
HAWSER_API hawser_status_t hawser_outer_round(hawser_outer_t *outer, uint64_t *round_out, uint32_t *pending_out);
HAWSER_API hawser_status_t hawser_outer_set_round(hawser_outer_t *outer, uint64_t round, uint32_t pending);

/** Frees. The parameters stay as they are. A round in flight is waited for, at most 2 s, and then cancelled, for all members:
 *  call hawser_outer_finish before. */
HAWSER_API hawser_status_t hawser_outer_destroy(hawser_outer_t *outer);

/* ----------------------------------------------------------------------------------------------------------- metrics */

typedef struct hawser_metrics {
  size_t size;             /**< sizeof(hawser_metrics_t) */
  uint64_t bytes_sent;     /**< payload bytes of operations, since creation */
  uint64_t bytes_received;
  uint64_t ops_committed;  /**< operations that ended with OK */
  uint64_t ops_failed;     /**< operations that ended otherwise */
  uint64_t ops_rerun;      /**< attempts repeated after a lost peer */
  uint64_t views;          /**< views installed here */
  uint64_t peers_lost;     /**< members that views removed without their having left */
  uint64_t frames_stale;   /**< data frames of an older epoch dropped at the door */
  uint32_t strands_open;   /**< data connections that are up now */
  uint32_t ops_open;       /**< operations in flight now */
  uint64_t frames_resent;  /**< frames sent again because the connection that carried them was lost */
  int32_t slow_rank;       /**< a member that an operation waits for unusually long now, -1: none. Unusual are 3 x the
                                median of recent operations of the same kind and size, at least 1 s; 5 s while there are
                                fewer than 3. What it waits for is a log line: not entered, no data, not finished */
  uint32_t slow_ms;        /**< for how long that operation has been open */
  uint64_t bytes_relayed;  /**< payload bytes that went by way of a third member, between two that cannot reach each other:
                                sent so by this one, or passed on by it */
  uint64_t strands_shared; /**< data connections that came to use shared memory, since creation */
} hawser_metrics_t;
#define HAWSER_METRICS_INIT {sizeof(hawser_metrics_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0}

/** Counters of one communicator. Cheap enough for every step. */
HAWSER_API hawser_status_t hawser_comm_metrics(hawser_comm_t *comm, hawser_metrics_t *metrics_out);

#ifdef __cplusplus
}
#endif

#endif
