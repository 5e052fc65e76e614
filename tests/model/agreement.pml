/* How the members of a group agree on what became of an operation and on their views: docs/protocol.md as a model for
   spin. README.md says what each rule is in the code, and what is left out.

   N peers, one operation, V view changes (so views 1 to V+1; view 1 is there), terms 1 to T. Each term is a round of a
   coordinator that knows only what members tell it, and rounds run side by side: so two coordinators may be alive at
   once, with the terms between them in any way. With LOG (rules alone and arbiter) only one round at a time can decide;
   moving on to another is the next change of the same coordinator, or a crash at that moment and a start from the log.
   With ALONE (rule alone) too, but there is no log: moving on is a crash, and the next one knows nothing.

   The network is a set of messages that only grows. Any of them is taken at any time, or never, or twice; hence delay,
   loss, duplication and every order. A crash is a process that takes no more steps: every prefix of a run contains it.
   What a call returned before its peer crashed stays in `success` and `failure`.

   Settings: N 2 to 4, T, V, LOG, ALONE; DIGESTS 1 or 2, how many results members may come to; JOIN: the last peer is not in
   view 1, odd terms are admissions by the coordinator of the round before (1: by the one that formed the group).
   PLAIN: without bringing equal futures together, to check that it is harmless. M_... plants a mistake, which an
   assertion must find. */

#ifndef N
#define N 3
#endif
#ifndef T
#define T 2
#endif
#ifndef V
#define V 2
#endif
#ifndef DIGESTS
#define DIGESTS 1
#endif

#define BIT(p) (1 << (p))
#define ALL (BIT(N) - 1)
#define COUNT(m) (((m) & 1) + (((m) >> 1) & 1) + (((m) >> 2) & 1) + (((m) >> 3) & 1))
#define LAST (V + 1) /* no round changes this view */
#define OUT (V + 2)  /* as view: this peer was removed. As base: this round can come to nothing any more. */

#ifdef JOIN
#define FOUNDERS (ALL >> 1)
#define ADMISSION(t) ((t) % 2)
#else
#define FOUNDERS ALL
#define ADMISSION(t) 0
#endif

/* More than half of view v, or half of it with its first member in rank order. */
#ifdef M_ANY_HALF
#define MAJORITY(m, v) (2 * COUNT((m) & (v)) >= COUNT(v))
#else
#define MAJORITY(m, v) (2 * COUNT((m) & (v)) + (((m) & (v) & (0 - (v))) != 0) > COUNT(v))
#endif

/* The operation at a member. over: it failed, or the whole view knows that it is committed. */
#define open 0
#define done_a 1 /* said Done, with result a */
#define done_b 2
#define committed 3
#define over 4
#define voted 5 /* for M_ABORT_ALONE only */
#define IS_DONE(p) (phase[p] == done_a || phase[p] == done_b)

/* What an Install says of it. */
#define none 0 /* goes on, or begins again where a member was removed */
#define commit 1
#define abort 2
#define admit_a 3 /* an unsealed Install: lets the newcomer in, at this or that admission point; says nothing of it */
#define admit_b 4
#define ADMITS(t) (outcome[t] >= admit_a)

/* ---------------------------------------------------------------------------------------------------------- state */

/* Peers. */
byte view[N];     /* 0: waits to be let in */
byte phase[N];
bit sealed[N];
byte promised[N]; /* the highest term it has obeyed */
byte accepted[N]; /* term of the proposal it holds for the view after its own; 0: none */

/* Done, by epoch: who has said it, with result a, with result b. */
byte said_a[V + 2];
byte said_b[V + 2];

/* SealReply to the round of a term, as far as the round makes use of it: the newest view it was told of; who has
   answered from that view; the highest term of the proposals these hold; and if they hold none, the operation at each,
   open where the answer does not list it. */
byte newest[T + 1];
byte heard[T + 1];
byte held[T + 1];
byte answer[(T + 1) * N];

/* Propose: number of the view it follows (0: not yet), members, outcome; who has accepted it. Install says the same. */
byte base[T + 1];
byte chosen[T + 1];
byte outcome[T + 1];
byte accepts[T + 1];

#if defined(LOG) || defined(ALONE)
#define ONE_AT_A_TIME
byte term;  /* of the round of the one coordinator that there is; 0: the one that formed the group */
byte begun; /* rounds that have been its own, or its predecessors' */
#endif
#ifdef LOG
byte logged = 1; /* the last view in the log, as far as the coordinator knows */
byte logged_term;
#endif
#ifdef ALONE
byte agreed; /* rounds whose proposal the coordinator has decided upon while it was there */
#endif
#if defined(LOG) && defined(JOIN)
/* The log's last record, if it lets the newcomer in, may be one whose write had failed: nobody was told of the view, and
   members were told to go on from the admission point. */
#define FAILED_WRITES
byte record;        /* the round whose it is */
byte failed;        /* rounds whose record was left behind by a write that had failed; nobody has decided that it counts */
byte released;      /* rounds at whose point members were told to go on */
byte sure;          /* rounds whose record says that it counts, whoever has passed the point */
byte unsure;        /* the round whose record the coordinator has found and asks the members about; 0: none */
byte passed[T + 1]; /* who has passed its admission point */
#endif

/* By view number, what was installed first. */
byte members[V + 3];
byte epoch[V + 3];
byte decided[V + 3];

/* What calls have returned, anywhere: epoch of the attempt and its result; failed. */
byte success;
bit failure;

hidden byte n, m;              /* scratch of d_steps */
byte s, e, i, c, all_a, all_b; /* scratch of atomic steps, 0 after them */

/* What was seen to happen, over the whole search: no state. model.py asks for all that a setting can show. */
c_decl {
  static const char *sights[] = {"commit by Install", "commit of a rerun", "commit while sealed",
                                 "abort of what was done", "lower term leaves sealed", "proposal again",
                                 "a view missed", "two removals", "newcomer let in", "admission again",
                                 "results differ", "Install of an earlier round", "newcomer forgets",
                                 "a failed record counts", "a point was passed", "a failed record was given up",
                                 "proposal once more"};
  static char seen[sizeof(sights) / sizeof(sights[0])];
  static void tell(void) {
    for (int k = 0; k < (int)(sizeof(sights) / sizeof(sights[0])); ++k) if (seen[k]) printf("seen: %s\n", sights[k]);
  }
}
#define SEE(k, condition) \
  if                      \
  :: condition -> c_code { seen[k] = 1; } \
  :: else                 \
  fi

#define PARTICIPANTS(p) (members[view[p]] & FOUNDERS)

/* Decided upon: in the log; accepted by all members that stay and live; or by a majority of the old and of the new
   view. */
#define PROPOSED(t) (base[t] != 0 && base[t] <= V)
#ifdef FAILED_WRITES
#define DECIDED(t) (PROPOSED(t) && !(failed & BIT(t)))
#elif defined(LOG) || defined(M_NO_ACCEPTANCE)
#define DECIDED(t) PROPOSED(t)
#elif defined(ALONE)
#define DECIDED(t) (PROPOSED(t) && (agreed & BIT(t)))
#elif defined(M_OLD_VIEW_ONLY)
#define DECIDED(t) (PROPOSED(t) && MAJORITY(accepts[t], members[base[t]]))
#else
#define DECIDED(t) (PROPOSED(t) && MAJORITY(accepts[t], members[base[t]]) && MAJORITY(accepts[t], chosen[t]))
#endif

/* The promise of the whole: never two different attempts or results, never success here and failure there. */
inline succeed(attempt, result) {
  assert(!failure && (success == 0 || success == 2 * (attempt) + (result)));
  success = 2 * (attempt) + (result)
}

inline fail() {
  assert(success == 0);
  failure = 1
}

/* ----------------------------------------------------------------------------- equal futures become equal states */

#if N == 2
#define EVERY(what) (what(0) && what(1))
#elif N == 3
#define EVERY(what) (what(0) && what(1) && what(2))
#elif N == 4
#define EVERY(what) (what(0) && what(1) && what(2) && what(3))
#endif
#define PAST(p) (view[p] > m)
#define IGNORES(p) (view[p] > V || promised[p] > m || (base[m] != 0 && view[p] > base[m]))

inline forget_ops(t) {
  n = 0;
  do
  :: n < N -> answer[t * N + n] = open; n++
  :: else -> break
  od
}

inline forget_answers(t) {
  newest[t] = 0;
  heard[t] = 0;
  held[t] = 0;
  forget_ops(t)
}

/* Rounds that everyone has promised to ignore and nobody has accepted anything of. */
inline bury_rounds() {
#if !defined(ONE_AT_A_TIME) && !defined(PLAIN)
  m = 1;
  do
  :: m < T ->
    if
    :: base[m] <= V && !DECIDED(m) && accepts[m] == 0 && EVERY(IGNORES) ->
      forget_answers(m);
      base[m] = OUT;
      chosen[m] = 0;
      outcome[m] = 0
    :: else
    fi;
    m++
  :: else -> break
  od;
#endif
  m = 0
}

/* Where records are judged, the kind of a proposal matters for longer. */
#ifdef FAILED_WRITES
#define SAME(what) skip
#else
#define SAME(what) what
#endif

/* What was said in view v, once all have left it. */
inline bury_view(v) {
  m = v;
  if
#ifndef PLAIN
  :: EVERY(PAST) ->
    if
    :: epoch[m + 1] == m + 1 -> said_a[epoch[m]] = 0; said_b[epoch[m]] = 0
    :: else
    fi;
    e = m;
    m = 1;
    do
    :: m <= T ->
      if
      :: base[m] == e && DECIDED(m) -> chosen[m] = ALL; accepts[m] = ALL; SAME(outcome[m] = 0)
      :: base[m] == e && !DECIDED(m) -> base[m] = OUT; chosen[m] = 0; accepts[m] = 0; SAME(outcome[m] = 0)
      :: base[m] == 0 && newest[m] == e -> forget_answers(m)
      :: else
      fi;
      m++
    :: else -> break
    od
#endif
  :: else
  fi;
  e = 0;
  m = 0
}

/* ---------------------------------------------------------------------------------------------------------- peers */

/* Done. */
#ifdef M_DONE_AFTER_SEAL
#define MAY_SAY(p) (phase[p] == open && view[p] != 0 && view[p] <= LAST && (FOUNDERS & BIT(p)))
#else
#define MAY_SAY(p) (phase[p] == open && view[p] != 0 && view[p] <= LAST && (FOUNDERS & BIT(p)) && !sealed[p])
#endif

/* Commit: when the Done of all participants is known, in the epoch, with one result. A sealed member does, too. */
#ifdef M_EARLY_COMMIT
#define ALL_SAID(said, p) ((said[epoch[view[p]]] & PARTICIPANTS(p)) != BIT(p))
#elif defined(M_STALE_DONE)
#define ALL_SAID(said, p) (((said[1] | said[epoch[view[p]]]) & PARTICIPANTS(p)) == PARTICIPANTS(p))
#elif defined(M_ANY_RESULT)
#define ALL_SAID(said, p) (((said_a[epoch[view[p]]] | said_b[epoch[view[p]]]) & PARTICIPANTS(p)) == PARTICIPANTS(p))
#else
#define ALL_SAID(said, p) ((said[epoch[view[p]]] & PARTICIPANTS(p)) == PARTICIPANTS(p))
#endif

inline commit_by_done(p, result) {
  SEE(1, epoch[view[p]] > 1);
  SEE(2, sealed[p]);
  phase[p] = committed;
  succeed(epoch[view[p]], result)
}

/* Seal: a term above the promise; or once more the one that it is sealed by, from the view it has come to meanwhile. */
#ifdef ONE_AT_A_TIME
#define MAY_HEAR(t) (term == t) /* rounds that are over could only seal */
#else
#define MAY_HEAR(t) 1
#endif
#ifdef M_NO_PROMISE
#define OBEYS_SEAL(p, t) (base[t] == 0 && UNHEARD(p, t))
#elif defined(M_LOWER_UNSEALS)
#define OBEYS_SEAL(p, t) (promised[p] < t || (promised[p] == t && base[t] == 0 && UNHEARD(p, t)))
#else
#define OBEYS_SEAL(p, t) (promised[p] < t || (promised[p] == t && sealed[p] && base[t] == 0 && UNHEARD(p, t)))
#endif
#ifdef M_OLD_ANSWERS
#define IN_TIME(p, t) 1
#define RENEWS(p, t) 0
#else
#define IN_TIME(p, t) (newest[t] <= view[p])
#define RENEWS(p, t) (newest[t] < view[p])
#endif
#define UNHEARD(p, t) (newest[t] < view[p] || (newest[t] == view[p] && !(heard[t] & BIT(p))))
#define MAY_ANSWER(p, t) (view[p] != 0 && view[p] <= V && MAY_HEAR(t) && OBEYS_SEAL(p, t))

#ifdef M_FORGET_COMMIT
#define LISTED(p) IS_DONE(p)
#else
#define LISTED(p) (IS_DONE(p) || phase[p] == committed)
#endif

inline answer_seal(p, t) {
#ifdef M_LOWER_UNSEALS /* an Install has unsealed it, but it answers as if not */
  sealed[p] = (promised[p] < t -> 1 : sealed[p]);
#else
  sealed[p] = 1;
#endif
  promised[p] = t;
  if
  :: base[t] == 0 && IN_TIME(p, t) ->
    if
    :: RENEWS(p, t) -> forget_answers(t)
    :: else
    fi;
    newest[t] = (newest[t] < view[p] -> view[p] : newest[t]);
    heard[t] = heard[t] | BIT(p);
    if
#if defined(LOG) || defined(M_IGNORE_ACCEPTED)
#elif defined(M_LOWEST_ACCEPTED)
    :: accepted[p] != 0 && (held[t] == 0 || accepted[p] < held[t]) -> held[t] = accepted[p]; forget_ops(t)
#else
    :: accepted[p] > held[t] -> held[t] = accepted[p]; forget_ops(t)
#endif
    :: else
    fi;
    if
    :: held[t] == 0 && LISTED(p) -> answer[t * N + p] = phase[p]
    :: else
    fi
  :: else /* the round has decided already, or knows of a newer view */
  fi;
  bury_rounds()
}

/* Propose: of a term not below the promise, for the view after its own. A newcomer takes one that names it. */
#ifdef M_NO_PROMISE
#define OBEYS_PROPOSE(p, t) (accepted[p] != t)
#else
#define OBEYS_PROPOSE(p, t) (accepted[p] != t && promised[p] <= t)
#endif
#ifdef LOG
#define MAY_ACCEPT(p, t) 0
#elif defined(ALONE) /* only members that stay are asked */
#define MAY_ACCEPT(p, t) (PROPOSED(t) && OBEYS_PROPOSE(p, t) && view[p] == base[t] && (chosen[t] & BIT(p)))
#elif defined(M_ANY_BASE)
#define MAY_ACCEPT(p, t) (PROPOSED(t) && OBEYS_PROPOSE(p, t) && view[p] <= V)
#else
#define MAY_ACCEPT(p, t) \
  (PROPOSED(t) && OBEYS_PROPOSE(p, t) && (view[p] == base[t] || (view[p] == 0 && (chosen[t] & BIT(p)))))
#endif

inline accept(p, t) {
  promised[p] = t;
  sealed[p] = (ADMITS(t) -> sealed[p] : 1);
  accepted[p] = t;
  accepts[t] = accepts[t] | BIT(p);
  if
#ifndef PLAIN
  :: DECIDED(t) -> accepts[t] = ALL /* it makes no difference who else accepts it */
#endif
  :: else
  fi;
  bury_rounds()
}

inline leave_group(p) { /* EXPELLED says nothing about the operation */
  view[p] = OUT;
  phase[p] = over;
  promised[p] = 0;
  sealed[p] = 0;
  accepted[p] = 0
}

/* Install: of a newer view, a decided fact whatever the promise. */
#define MAY_INSTALL(p, t) (DECIDED(t) && view[p] <= base[t])
#ifdef M_LOWER_UNSEALS
#define UNSEALS(p, t) 1
#else
#define UNSEALS(p, t) (promised[p] <= t)
#endif

inline install(p, t) {
  n = base[t] + 1;
  if
  :: members[n] == 0 ->
    members[n] = chosen[t];
    decided[n] = outcome[t];
    epoch[n] = ((members[base[t]] & ~chosen[t]) != 0 -> n : epoch[base[t]]);
    SEE(7, n == 3 && epoch[3] == 3 && epoch[2] == 2);
    SEE(8, ADMITS(t))
  :: else
  fi;
  assert(members[n] == chosen[t] && decided[n] == outcome[t]); /* one view of each number, one set of outcomes */
#ifdef ONE_AT_A_TIME
  SEE(11, term != t);
#endif
  if
#ifdef FAILED_WRITES
#ifndef M_POINT_PASSED
  :: ADMITS(t) && (passed[t] & BIT(p)) -> /* it has gone on from there */
    SEE(14, 1);
    leave_group(p)
#endif
#endif
  :: !(chosen[t] & BIT(p)) -> leave_group(p)
  :: (chosen[t] & BIT(p)) && view[p] != base[t] && view[p] != 0 -> /* it has missed a view, and what that said */
    SEE(6, 1);
    leave_group(p)
  :: else ->
#ifdef FAILED_WRITES
    assert(!ADMITS(t) || !(passed[t] & BIT(p))); /* newcomers are let in where all stand at the same point */
#endif
    if
    :: !(FOUNDERS & BIT(p)) || ADMITS(t)
    :: (FOUNDERS & BIT(p)) && outcome[t] == commit ->
#ifdef M_FORGET_DONE
      assert(phase[p] != open);
#else
      assert(IS_DONE(p) || phase[p] == committed);
#endif
      if
      :: IS_DONE(p) ->
        SEE(0, 1);
        succeed(epoch[base[t]], phase[p] == done_b)
      :: else
      fi;
      phase[p] = over
    :: (FOUNDERS & BIT(p)) && outcome[t] == abort ->
      assert(phase[p] != committed);
      SEE(3, IS_DONE(p));
      if
      :: phase[p] != over -> fail()
      :: else
      fi;
      phase[p] = over
    :: (FOUNDERS & BIT(p)) && outcome[t] == none ->
      if
      :: epoch[n] == n && phase[p] != over -> /* a new epoch: from the beginning */
        assert(phase[p] != committed);
        phase[p] = open
      :: else
      fi
    fi;
    view[p] = n;
    accepted[p] = 0;
    SEE(4, promised[p] > t && sealed[p]);
    if
    :: n == LAST -> promised[p] = 0; sealed[p] = 0 /* nobody asks any more */
    :: else ->
      sealed[p] = (!ADMITS(t) && UNSEALS(p, t) -> 0 : sealed[p]);
      promised[p] = (promised[p] < t -> t : promised[p])
    fi
  fi;
  bury_view(base[t])
}

#ifdef FAILED_WRITES
#define MAY_PASS(p, t) (ADMISSION(t) && (released & BIT(t)) && view[p] == base[t] && !(passed[t] & BIT(p)))
#define PASSES(t) :: d_step { MAY_PASS(me, t) -> passed[t] = passed[t] | BIT(me) }
#else
#define PASSES(t)
#endif

#define TAKES(t)                                                         \
  PASSES(t)                                                              \
  :: d_step { !ADMISSION(t) && MAY_ANSWER(me, t) -> answer_seal(me, t) } \
  :: d_step { MAY_ACCEPT(me, t) -> accept(me, t) }                       \
  :: d_step { MAY_INSTALL(me, t) -> install(me, t) }

proctype Peer(byte me) {
end:
  do
  :: d_step { MAY_SAY(me) ->
      phase[me] = done_a;
      said_a[epoch[view[me]]] = said_a[epoch[view[me]]] | BIT(me) }
  :: d_step { phase[me] == done_a && ALL_SAID(said_a, me) -> commit_by_done(me, 0) }
#if DIGESTS == 2
  :: d_step { MAY_SAY(me) ->
      phase[me] = done_b;
      said_b[epoch[view[me]]] = said_b[epoch[view[me]]] | BIT(me) }
  :: d_step { phase[me] == done_b && ALL_SAID(said_b, me) -> commit_by_done(me, 1) }
#endif
#ifdef M_FORGET_DONE /* a call that gives up after its Done is forgotten, and so missing in answers */
  :: d_step { IS_DONE(me) -> phase[me] = over }
#endif
#if defined(JOIN) && !defined(LOG)
  /* A newcomer that a coordinator sends away begins anew with the next one and owes nothing to any. */
  :: d_step { view[me] == 0 && promised[me] != 0 -> SEE(12, accepted[me] != 0); promised[me] = 0; accepted[me] = 0 }
#endif
#ifdef M_ABORT_ALONE /* a coordinator that hears a vote tells this and that member, without a view change */
  :: d_step { phase[me] == open && view[me] <= LAST -> phase[me] = voted }
  :: d_step { (phase[me] == open || IS_DONE(me)) && view[me] == 1 &&
              (phase[0] == voted || phase[1] == voted || phase[2] == voted) -> phase[me] = over; fail() }
#endif
  TAKES(1)
#if T >= 2
  TAKES(2)
#endif
#if T >= 3
  TAKES(3)
#endif
#if T >= 4
  TAKES(4)
#endif
#if T >= 5
  TAKES(5)
#endif
  od
}

/* --------------------------------------------------------------------------------------------------- coordinators */

#ifdef M_LOST_LOG /* there is no log: it takes the word of a majority for it */
#define MAY_DECIDE(t) (base[t] == 0 && t == term && newest[t] != 0 && MAJORITY(heard[t], members[newest[t]]))
#elif defined(FAILED_WRITES)
#define MAY_DECIDE(t) (base[t] == 0 && t == term && newest[t] == logged && unsure == 0)
#elif defined(LOG)
#define MAY_DECIDE(t) (base[t] == 0 && t == term && newest[t] == logged)
#elif defined(ALONE)
#define MAY_DECIDE(t) (base[t] == 0 && t == term && newest[t] != 0 && MAJORITY(heard[t], members[newest[t]]))
#elif defined(M_MINORITY)
#define MAY_DECIDE(t) (base[t] == 0 && newest[t] != 0)
#else
#define MAY_DECIDE(t) (base[t] == 0 && newest[t] != 0 && MAJORITY(heard[t], members[newest[t]]))
#endif

/* Of the answers from the newest view: the accepted proposal with the highest term again; else whoever the coordinator
   takes for lost or leaving is left out, and the operation gets any outcome that decide_outcomes may give it. */
inline decide(t) {
  if
  :: held[t] != 0 ->
    SEE(5, 1);
    SEE(9, ADMITS(held[t]));
    chosen[t] = chosen[held[t]];
    outcome[t] = outcome[held[t]]
  :: else ->
    s = heard[t];
    i = 0;
    do
    :: i < N && (s & BIT(i)) && s != BIT(i) ->
      if
      :: s = s & ~BIT(i)
      :: skip
      fi;
      i++
    :: i < N && !((s & BIT(i)) && s != BIT(i)) -> i++
    :: i == N -> break
    od;
    chosen[t] = s;
    /* the participants among the survivors */
    all_a = 1;
    all_b = 1;
    c = 0;
    i = 0;
    do
    :: i < N ->
      if
      :: (s & FOUNDERS & BIT(i)) ->
        all_a = all_a && answer[t * N + i] == done_a;
        all_b = all_b && answer[t * N + i] == done_b;
        c = (answer[t * N + i] == committed -> 1 : c)
      :: else
      fi;
      i++
    :: else -> break
    od;
#ifdef M_LOSS_ABORTS
    if
    :: (members[newest[t]] & ~s) != 0 -> c = 0; all_a = 0; all_b = 0
    :: else
    fi;
#endif
    if
    :: !(s & FOUNDERS) -> outcome[t] = none
    :: (s & FOUNDERS) && (c || all_a || all_b) -> outcome[t] = commit
    :: else -> /* any reason there may be, differing results among them; or none */
      if
      :: outcome[t] = abort
      :: outcome[t] = none
      fi
    fi
  fi;
  base[t] = newest[t];
#ifdef LOG
#ifndef M_NOT_LOGGED
  logged = newest[t] + 1;
  logged_term = t;
#endif
#endif
#ifdef FAILED_WRITES
  record = t;
#endif
  d_step { /* nobody asks for the answers any more */
    n = epoch[newest[t]];
    SEE(10, outcome[t] == abort && (chosen[t] & said_a[n]) && (chosen[t] & said_b[n]) &&
            !(chosen[t] & ~(said_a[n] | said_b[n])));
    forget_answers(t)
  }
  s = 0; i = 0; c = 0; all_a = 0; all_b = 0
}

/* Newcomers are let in by the coordinator that has installed the view, in the term of that; no Seal. */
#define BEFORE(t) ((t) == 1 -> 1 : base[(t) - 1] + 1) /* number of that view */
#ifdef FAILED_WRITES
#define LEADS(t) (term == (t) - 1 && logged == BEFORE(t) && unsure == 0)
#elif defined(ALONE)
#define LEADS(t) (term == (t) - 1 && (term == 0 || DECIDED(term)))
#else
#define LEADS(t) ((t) == 1 || DECIDED((t) - 1))
#endif
#define MAY_ADMIT(t) \
  (base[t] == 0 && LEADS(t) && BEFORE(t) <= V && members[BEFORE(t)] != 0 && !(members[BEFORE(t)] & BIT(N - 1)) && \
   view[N - 1] == 0)

inline let_in(t) {
  base[t] = BEFORE(t);
  chosen[t] = members[base[t]] | BIT(N - 1);
  if
  :: outcome[t] = admit_a
  :: outcome[t] = admit_b
  fi;
#ifdef FAILED_WRITES
  if
  :: logged = base[t] + 1
  :: failed = failed | BIT(t); released = released | BIT(t) /* members go on; a new process finds the record */
  fi;
  record = t;
  logged_term = t
#endif
}

#ifdef JOIN
#define DECIDES(t)                                          \
  :: atomic { !ADMISSION(t) && MAY_DECIDE(t) -> decide(t) } \
  :: atomic { ADMISSION(t) && MAY_ADMIT(t) -> let_in(t) }
#else
#define DECIDES(t) :: atomic { MAY_DECIDE(t) -> decide(t) }
#endif

/* The coordinator goes on, or dies and another begins, with any term that the log does not know to be used. */
#ifdef LOG
#define UNUSED(t) (t > logged_term && !(begun & BIT(t)))
#else
#define UNUSED(t) (!(begun & BIT(t)))
#endif
#define BEGINS(t)                            \
  :: d_step { !ADMISSION(t) && UNUSED(t) -> \
      m = term; forget_answers(m); m = 0; term = t; begun = begun | BIT(t) }

#ifdef FAILED_WRITES
/* A new process, which finds a record that lets the newcomer in: it asks the members first. */
#define RESTARTS(t)                                                                                             \
  :: d_step { !ADMISSION(t) && UNUSED(t) && record != 0 && ADMITS(record) && !(sure & BIT(record)) -> \
      m = term; forget_answers(m); m = 0; term = t; begun = begun | BIT(t); unsure = record }

/* Nobody was told of the view if one of them has passed the point; else it counts, and the log says so before anybody is
   told. */
inline settle() {
  m = base[unsure] + 1;
  if
  :: newest[term] + 1 == m && (heard[term] & passed[unsure]) -> SEE(15, 1); logged = newest[term]
  :: else ->
    SEE(13, failed & BIT(unsure));
    failed = failed & ~BIT(unsure);
#ifndef M_UNCONFIRMED
    sure = sure | BIT(unsure);
#endif
    logged = m
  fi;
  unsure = 0;
  m = 0
}
#define MAY_SETTLE (unsure != 0 && base[unsure] <= V && (newest[term] == 0 || newest[term] >= base[unsure]))
#else
#define RESTARTS(t)
#endif

#ifdef ALONE
/* While the coordinator is there: the members that stay have accepted. Those that it takes for lost meanwhile are not
   waited for; nothing is promised where they and those that are removed are half of the view. */
#ifdef M_HALF_REMOVED
#define ENOUGH(t) (accepts[t] != 0)
#else
#define ENOUGH(t) (2 * COUNT(accepts[t] & members[base[t]]) > COUNT(members[base[t]]))
#endif
/* A member comes that has promised a higher term to an earlier process: the same is proposed in a term above that. */
#define AGREES(t)                                                                                              \
  :: d_step { PROPOSED(t) && term == t - ADMISSION(t) && !(agreed & BIT(t)) && ENOUGH(t) ->                    \
      agreed = agreed | BIT(t) }                                                                               \
  :: d_step { !ADMISSION(t) && term != 0 && t > term && UNUSED(t) && PROPOSED(term) && !(agreed & BIT(term)) -> \
      SEE(16, accepts[term]); base[t] = base[term]; chosen[t] = chosen[term]; outcome[t] = outcome[term];      \
      term = t; begun = begun | BIT(t) }
#else
#define AGREES(t)
#endif

#define CHANGES(t) \
  BEGINS(t)        \
  RESTARTS(t)      \
  AGREES(t)

proctype Coordinators() {
end:
  do
  DECIDES(1)
#if T >= 2
  DECIDES(2)
#endif
#if T >= 3
  DECIDES(3)
#endif
#if T >= 4
  DECIDES(4)
#endif
#if T >= 5
  DECIDES(5)
#endif
#ifdef ONE_AT_A_TIME
  CHANGES(1)
#if T >= 2
  CHANGES(2)
#endif
#if T >= 3
  CHANGES(3)
#endif
#if T >= 4
  CHANGES(4)
#endif
#if T >= 5
  CHANGES(5)
#endif
#ifdef M_NOT_LOGGED
  :: d_step { term != 0 && base[term] == logged -> logged = base[term] + 1; logged_term = term }
#endif
#ifdef FAILED_WRITES
  :: d_step { MAY_SETTLE -> settle() }
#endif
#endif
  od
}

init {
  atomic {
    c_code { atexit(tell); };
    members[1] = FOUNDERS;
    epoch[1] = 1;
    do
    :: i < N ->
      view[i] = ((FOUNDERS & BIT(i)) != 0 -> 1 : 0);
      run Peer(i);
      i++
    :: else -> break
    od;
    run Coordinators();
    i = 0
  }
}
