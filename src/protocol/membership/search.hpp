// How a newcomer goes through the coordinators that it knows, and what it may say of it in Hello: whether one of them
// may form its group. Pure.
#pragma once

#include <cstddef>

#include "wire/messages.hpp"

namespace hawser::protocol {

class Search {
 public:
  explicit Search(std::size_t addresses) : addresses_(addresses) {}

  void welcomed() { *this = Search(addresses_); }
  // By a Refuse that names a lineage: the group exists. A whole round without such an answer must come first.
  void led_elsewhere() { exists_ = true; }
  // One address is done with; it has refused this peer, or there was no answer.
  void failed(bool refused) {
    asked_ = exists_ ? 0 : asked_ + 1;
    answered_ = exists_ || !refused ? 0 : answered_ + 1;
    exists_ = false;
  }
  [[nodiscard]] wire::Asked asked() const {
    return answered_ >= addresses_ ? wire::Asked::all
           : asked_ >= addresses_  ? wire::Asked::all_that_answer
                                   : wire::Asked::some;
  }

 private:
  std::size_t addresses_;
  std::size_t asked_ = 0;  // in a row
  std::size_t answered_ = 0;
  bool exists_ = false;
};

}  // namespace hawser::protocol
