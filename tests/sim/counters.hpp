// "Sometimes": rare states that the default run must reach, each counted over all histories. A state that is never
// reached means that the simulator no longer tests what it claims to. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace hawser::sim {

#define HAWSER_SIM_SOMETIMES(X)                                                          \
  X(committed, "an operation is committed by the members themselves")                    \
  X(commit_by_install, "an operation is committed by a view change")                     \
  X(commit_with_lost, "what is committed holds the contribution of a lost member")       \
  X(abort_by_install, "an operation is aborted by a view change")                        \
  X(rerun, "an operation starts again in a new epoch")                                   \
  X(rerun_after_done, "an operation starts again at a member that had said Done")        \
  X(strict_lost, "PEER_LOST under the strict policy")                                    \
  X(lost_before_start, "PEER_LOST is waiting for a call that had not come yet")          \
  X(ended_before_start, "another failure is waiting for a call that had not come yet")   \
  X(root_lost, "PEER_LOST because the root of a broadcast is gone")                      \
  X(early_begin, "a Begin comes before the call")                                        \
  X(early_done, "a Done comes before the call")                                          \
  X(finish_while_sealed, "a result is complete while the group is sealed")               \
  X(start_while_sealed, "a call comes while the group is sealed")                        \
  X(vote_while_sealed, "a vote comes while the group is sealed")                         \
  X(vote_after_done, "a vote comes after Done")                                          \
  X(fault_repeated, "a vote is repeated after an Install")                               \
  X(timeout, "TIMEOUT")                                                                  \
  X(cancelled, "CANCELLED")                                                              \
  X(mismatch, "MISMATCH")                                                                \
  X(tags_apart, "MISMATCH because members wait for one another under different tags")    \
  X(diverged, "DIVERGED")                                                                \
  X(too_few, "TOO_FEW")                                                                  \
  X(abandoned, "an operation is given up because there is no coordinator")               \
  X(uncoordinated, "an operation is committed while there is no coordinator")            \
  X(frame_parked, "a frame comes before the view it belongs to")                         \
  X(frame_stale, "a frame of an old epoch is dropped")                                   \
  X(frame_repeated, "a frame is delivered twice")                                        \
  X(admission, "newcomers are admitted")                                                 \
  X(two_joiners, "two newcomers are admitted at once")                                   \
  X(open_at_admission, "operations are open while newcomers are admitted")               \
  X(admission_interrupted, "a loss interrupts an admission")                             \
  X(admission_cancelled, "members that wait for newcomers are released")                 \
  X(admit_given_up, "an admission call reaches its deadline")                            \
  X(admit_credit, "the view comes after the admission call has given up")                \
  X(join_while_sealed, "a peer joins while its group is sealed")                         \
  X(newcomer_lost, "a newcomer is lost before its first view is installed")              \
  X(lost_while_sealed, "a member is lost while its group is sealed")                     \
  X(left, "a member leaves")                                                             \
  X(left_and_lost, "one view change removes a leaving and a lost member")                \
  X(reformed, "a group forms again after all have gone")                                 \
  X(expelled, "a member learns that it was removed")                                     \
  X(zombie, "a stopped member comes back after it was removed")                          \
  X(zombie_commit, "a removed member commits an operation before it learns of that")     \
  X(suspected, "a member is removed because of a broken edge")                           \
  X(pair_served, "two members that cannot reach each other stay, since a third can")     \
  X(relayed, "a frame goes by way of a third")                                           \
  X(relay_parked, "a third holds a frame back until it has the view")                    \
  X(relay_refused, "a third has no way, or loses it")                                    \
  X(relay_again, "and what it was given goes by way of another one")                     \
  X(relay_repeated, "a frame that a third has brought comes once more over a strand")    \
  X(served_commit, "members commit an operation though two of them have no strand")      \
  X(served_for_good, "a group ends in order with two members that have no strand")       \
  X(coordinator_paused, "the coordinator stands still for longer than the peer timeout") \
  X(coordinator_silent, "a member gives up a silent coordinator")                        \
  X(foreign_coordinator, "a member is told that another group has its number")           \
  X(restored, "a coordinator starts with its log")                                       \
  X(memory_lost, "a coordinator that is the only one starts without its memory")         \
  X(outside, "it had removed half of a view: nothing is promised")                       \
  X(recovered, "a coordinator learns the view from members")                             \
  X(attached, "a member comes back to the coordinator that it lost")                     \
  X(returned, "a member comes back after a view that it did not hear of")                \
  X(returned_sealed, "a member comes back sealed")                                       \
  X(came_back_quietly, "a member comes back and no view change follows from it")         \
  X(joined_elsewhere, "a newcomer hears from another coordinator that it is a member")   \
  X(handed_on, "a member gets an Install from a coordinator that did not decide on it")  \
  X(two_coordinators, "two coordinators lead one group, as they believe")                \
  X(zombie_coordinator, "a coordinator goes on after another has taken over")            \
  X(accepted_reported, "a coordinator hears of a proposal that was accepted")            \
  X(adopted, "a proposal of an old term becomes the view under a new one")               \
  X(unsealed_not, "an Install comes while another coordinator has sealed the member")    \
  X(seals_twice, "a member is sealed again before an Install came")                      \
  X(minority, "a coordinator has no majority of the members")                            \
  X(majority_gone, "a majority is gone for good")                                        \
  X(partitioned_at_accept, "the network is cut when a proposal has acceptances")         \
  X(turned_away, "a peer is told to ask another coordinator")                            \
  X(standing_alone, "a member stands at an admission point without a coordinator")       \
  X(standing_admitted, "and newcomers are admitted there later")                         \
  X(standing_released, "and is released later")                                          \
  X(persist_failed, "a view cannot be made durable")                                     \
  X(persist_failed_in_change, "that of a sealed view change")                            \
  X(failed_record_found, "a record whose write had failed is found")                     \
  X(crash_at_persist, "a coordinator dies while it makes a view durable")                \
  X(coordinator_and_peers, "a coordinator and members die in one moment")                \
  X(heir_lost, "a coordinator dies, and with it who hears of its last view")             \
  X(deposed, "the arbiter takes the lead from a coordinator")                            \
  X(straggler_removed, "a member that has not entered an operation is removed")          \
  X(crash_between_actions, "a process dies in the middle of what it was doing")          \
  X(other_group, "two groups live on one coordinator")

enum class Sometimes : std::uint8_t {
#define HAWSER_SIM_NAME(name, text) name,
  HAWSER_SIM_SOMETIMES(HAWSER_SIM_NAME)
#undef HAWSER_SIM_NAME
      count_
};

class Counters {
 public:
  static constexpr std::size_t size = static_cast<std::size_t>(Sometimes::count_);

  void count(Sometimes what) { ++values_[static_cast<std::size_t>(what)]; }
  void add(const Counters& other) {
    for (std::size_t i = 0; i < size; ++i) values_[i] += other.values_[i];
  }
  [[nodiscard]] std::uint64_t value(std::size_t index) const { return values_[index]; }
  static const char* name(std::size_t index) {
    static constexpr const char* names[] = {
#define HAWSER_SIM_NAME(name, text) #name,
        HAWSER_SIM_SOMETIMES(HAWSER_SIM_NAME)
#undef HAWSER_SIM_NAME
    };
    return names[index];
  }
  static const char* text(std::size_t index) {
    static constexpr const char* texts[] = {
#define HAWSER_SIM_NAME(name, text) text,
        HAWSER_SIM_SOMETIMES(HAWSER_SIM_NAME)
#undef HAWSER_SIM_NAME
    };
    return texts[index];
  }

 private:
  std::array<std::uint64_t, size> values_{};
};

}  // namespace hawser::sim
