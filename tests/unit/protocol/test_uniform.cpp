// Which items of a list run again: those that are not of the newest membership, and the same ones at every member.
#include "protocol/round/uniform.hpp"

#include <vector>

#include "support/catch.hpp"

using namespace hawser;            // NOLINT(google-build-using-namespace)
using namespace hawser::protocol;  // NOLINT(google-build-using-namespace)

namespace {

const PeerId a{1, 1};
const PeerId b{2, 2};
const PeerId c{3, 3};

std::vector<std::size_t> reruns(const std::vector<std::vector<PeerId>>& participants) {
  const std::vector<std::span<const PeerId>> spans(participants.begin(), participants.end());
  std::vector<std::size_t> out = {99};
  items_to_rerun(spans, out);
  return out;
}

using Indices = std::vector<std::size_t>;

}  // namespace

TEST_CASE("items of one membership stay as they are", "[uniform]") {
  CHECK(reruns({}).empty());
  CHECK(reruns({{a, b, c}}).empty());
  CHECK(reruns({{a, b}, {a, b}, {a, b}}).empty());
}

TEST_CASE("items of an older membership run again, wherever they stand in the list", "[uniform]") {
  CHECK(reruns({{a, b, c}, {a, b}, {a, b}}) == Indices{0});
  CHECK(reruns({{a, b}, {a, b, c}, {a, b}}) == Indices{1});
  CHECK(reruns({{a, b, c}, {b, c}, {a, b, c}, {c}, {b, c}}) == Indices{0, 1, 2, 4});
}
