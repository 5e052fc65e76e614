// Lists of tensors: values, what the infos say, and above all memberships: a member that is lost in the middle leaves a
// mixture that is told, or with HAWSER_OP_UNIFORM none at all. The lost one makes its part of the list as single
// operations, which count the same, so it goes exactly between two items. Sums are exact: every member's contribution
// is another power of ten.
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "support/group.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

// Nobody is lost just before the empty one: what needs no data of the lost one may commit as if it had come.
constexpr std::array<std::size_t, 7> counts = {3, 70000, 0, 1, 400000, 17, 9000};
constexpr std::size_t list_length = counts.size();

float part_of(std::uint32_t rank) { return std::array{1.0F, 10.0F, 100.0F, 1000.0F}.at(rank); }

float sum_of(const std::vector<std::uint32_t>& ranks) {
  return std::accumulate(ranks.begin(), ranks.end(), 0.0F, [](float sum, auto rank) { return sum + part_of(rank); });
}

// A member's tensors: element i of item k is part_of(rank) * (1 + (i + k) % 7).
struct List {
  List(std::uint32_t rank, bool in_place) {
    for (std::size_t k = 0; k < list_length; ++k) {
      std::vector<float> tensor(counts[k]);
      for (std::size_t i = 0; i < tensor.size(); ++i) tensor[i] = part_of(rank) * static_cast<float>(1 + (i + k) % 7);
      inputs.push_back(tensor);
      sends.push_back(std::move(tensor));
      recvs.emplace_back(in_place ? 0 : counts[k], -1.0F);
    }
    for (std::size_t k = 0; k < list_length; ++k) {
      hawser_many_item_t item = HAWSER_MANY_ITEM_INIT;
      item.send = sends[k].data();
      item.recv = in_place ? sends[k].data() : recvs[k].data();
      item.count = counts[k];
      items.push_back(item);
      infos.push_back(HAWSER_OP_INFO_INIT);
      infos.back().participant_ids = ids[k].data();
      infos.back().participant_capacity = 4;
    }
  }

  hawser_status_t reduce(const Comm& comm, std::size_t in_flight, const hawser_op_options_t* options = nullptr) {
    return hawser_all_reduce_many(comm.get(), items.data(), items.size(), in_flight, options, infos.data(), &info);
  }
  // By itself: as an operation, or as a uniform list of one, which only uniform lists match.
  hawser_status_t reduce_one(const Comm& comm, std::size_t k, bool uniform = false,
                             std::uint32_t policy = HAWSER_POLICY_RETRY) {
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.policy = policy;
    std::vector<float> recv(counts[k]);
    if (!uniform) {
      return hawser_all_reduce(comm.get(), inputs[k].data(), recv.data(), counts[k], HAWSER_F32, HAWSER_SUM, &options,
                               nullptr);
    }
    options.flags = HAWSER_OP_UNIFORM;
    hawser_many_item_t item = HAWSER_MANY_ITEM_INIT;
    item.send = inputs[k].data();
    item.recv = recv.data();
    item.count = counts[k];
    return hawser_all_reduce_many(comm.get(), &item, 1, 1, &options, nullptr, nullptr);
  }
  void check_sum(std::size_t k, float sum) const {
    const auto* out = static_cast<const float*>(items[k].recv);
    for (std::size_t i = 0; i < counts[k]; ++i) {
      const float wanted = sum * static_cast<float>(1 + (i + k) % 7);
      if (out[i] == wanted) continue;  // a text for each of them takes longer than the test
      check(false, "item " + std::to_string(k) + ", element " + std::to_string(i) + " is " + std::to_string(out[i]) +
                       ", wanted " + std::to_string(wanted));
    }
  }
  // What the infos say, for messages.
  [[nodiscard]] std::string told() const {
    std::string text = "uniform " + std::to_string(info.uniform) + ", rounds " + std::to_string(info.rounds) +
                       ", first failed " + std::to_string(info.first_failed) + ":";
    for (const hawser_op_info_t& item : infos) {
      text += " [" + std::string(hawser_status_name(static_cast<hawser_status_t>(item.status))) + " participants " +
              std::to_string(item.participants) + " runs " + std::to_string(item.runs) + "]";
    }
    return text;
  }
  void check_inputs() const { check(sends == inputs, "an input was changed"); }

  std::vector<std::vector<float>> inputs;
  std::vector<std::vector<float>> sends;
  std::vector<std::vector<float>> recvs;
  std::vector<hawser_many_item_t> items;
  std::array<std::array<hawser_peer_id_t, 4>, list_length> ids{};
  std::vector<hawser_op_info_t> infos;
  hawser_many_info_t info = HAWSER_MANY_INFO_INIT;
};

hawser_op_options_t uniform_options(std::uint32_t policy = HAWSER_POLICY_DEFAULT) {
  hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
  options.flags = HAWSER_OP_UNIFORM;
  options.policy = policy;
  return options;
}

// The ranks of a group before anyone goes; ranks move up then.
std::vector<std::uint32_t> ranks_of(const std::vector<Comm>& comms) {
  std::vector<std::uint32_t> ranks;
  for (const Comm& comm : comms) ranks.push_back(view_of(comm).rank);
  return ranks;
}

void lose(const Comm& comm) { expect(hawser_comm_abort(comm.get()), HAWSER_OK, "abort"); }

// Everybody still counts the same calls.
void check_in_step(const Comm& comm, std::uint32_t members) {
  hawser_op_info_t info = HAWSER_OP_INFO_INIT;
  std::uint32_t one = 1;
  expect(hawser_all_reduce(comm.get(), &one, &one, 1, HAWSER_U32, HAWSER_SUM, nullptr, &info), HAWSER_OK, "afterwards");
  check(one == members && info.participants == members, "members afterwards");
}

}  // namespace

TEST_CASE("a list is reduced like its items one by one", "[many]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3);
  const auto ranks = ranks_of(comms);
  for (const bool uniform : {false, true}) {
    for (const bool in_place : {false, true}) {
      in_threads(3, [&](std::uint32_t i) {
        // How many are in flight is everybody's own business.
        const std::size_t in_flight = std::array<std::size_t, 3>{1, 0, 3}.at(i);
        List list(ranks[i], in_place);
        hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
        options.tag = in_place ? 7 : 0;
        options.flags = uniform ? HAWSER_OP_UNIFORM : 0;
        expect(list.reduce(comms[i], in_flight, &options), HAWSER_OK, "list");
        for (std::size_t k = 0; k < list_length; ++k) {
          list.check_sum(k, 111.0F);
          const hawser_op_info_t& info = list.infos[k];
          check(info.status == HAWSER_OK && info.runs == 1 && info.participants == 3 && info.attempts == 1,
                "info: " + list.told());
          check(std::memcmp(&list.ids[k], &list.ids[0], 3 * sizeof(hawser_peer_id_t)) == 0, "ids");
        }
        if (!in_place) list.check_inputs();
        check(list.info.uniform == 1 && list.info.participants == 3 && list.info.rounds == 1,
              "summary: " + list.told());
        check(list.info.items_committed == list_length && list.info.first_failed == list_length,
              "summary of items: " + list.told());
        check(list.info.items_rerun == 0 && list.info.attempts == 1, "summary of reruns: " + list.told());
        check(list.info.bytes_sent > 4 * 400000 && list.info.bytes_received > 4 * 400000, "bytes");
        check(list.info.view == view_of(comms[i]).number && list.info.time_us > 0, "view and time");
      });
    }
  }
  in_threads(3, [&](std::uint32_t i) {
    hawser_many_info_t info = HAWSER_MANY_INFO_INIT;
    expect(hawser_all_reduce_many(comms[i].get(), nullptr, 0, 0, nullptr, nullptr, &info), HAWSER_OK, "empty list");
    check(info.uniform == 1 && info.items_committed == 0 && info.first_failed == 0, "summary of nothing");
    check_in_step(comms[i], 3);
  });
}

TEST_CASE("a list may mix types, operations and compressions, with weights for all", "[many]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  for (const bool uniform : {false, true}) {
    in_threads(2, [&](std::uint32_t i) {
      std::vector<std::int64_t> whole(1000, static_cast<std::int64_t>(i) + 1);
      std::vector<double> wide(300, i == 0 ? 2.0 : 5.0);
      std::vector<float> coded(5000, i == 0 ? 1.0F : 3.0F);
      hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
      compression.codec = HAWSER_CODEC_INT8;
      std::vector<hawser_many_item_t> items(3, HAWSER_MANY_ITEM_INIT);
      items[0] = {sizeof(hawser_many_item_t), whole.data(), whole.data(), 1000, HAWSER_I64, HAWSER_PROD, nullptr};
      items[1] = {sizeof(hawser_many_item_t), wide.data(), wide.data(), 300, HAWSER_F64, HAWSER_MAX, nullptr};
      items[2] = {sizeof(hawser_many_item_t), coded.data(), coded.data(), 5000, HAWSER_F32, HAWSER_AVG, &compression};
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.flags = uniform ? HAWSER_OP_UNIFORM : 0;
      expect(hawser_all_reduce_many(comms[i].get(), items.data(), 3, 2, &options, nullptr, nullptr), HAWSER_OK, "list");
      check(whole == std::vector<std::int64_t>(1000, 2), "product");
      check(wide == std::vector<double>(300, 5.0), "maximum");
      for (const float value : coded) check(value > 1.98F && value < 2.02F, "compressed average");

      std::vector<float> first(100, i == 0 ? 8.0F : 0.0F);
      std::vector<float> second(70000, i == 0 ? 4.0F : 0.0F);
      items[0] = {sizeof(hawser_many_item_t), first.data(), first.data(), 100, HAWSER_F32, HAWSER_AVG, nullptr};
      items[1] = {sizeof(hawser_many_item_t), second.data(), second.data(), 70000, HAWSER_F32, HAWSER_AVG, nullptr};
      options.weighted = 1;
      options.weight = i == 0 ? 1.0 : 3.0;
      expect(hawser_all_reduce_many(comms[i].get(), items.data(), 2, 0, &options, nullptr, nullptr), HAWSER_OK,
             "weighted");
      check(first == std::vector<float>(100, 2.0F) && second == std::vector<float>(70000, 1.0F), "weighted average");
    });
  }
}

TEST_CASE("a member lost in the middle of a list leaves a mixture that is told", "[many][loss]") {
  for (const bool in_place : {false, true}) {
    for (const std::size_t lost_after : {0U, 3U, 5U}) {
      const Coordinator coordinator(200);
      const auto comms = make_group(coordinator, 3);
      const auto ranks = ranks_of(comms);
      in_threads(3, [&](std::uint32_t i) {
        List list(ranks[i], in_place);
        if (i == 1) {
          for (std::size_t k = 0; k < lost_after; ++k) expect(list.reduce_one(comms[i], k), HAWSER_OK, "its part");
          return lose(comms[i]);
        }
        expect(list.reduce(comms[i], 2), HAWSER_OK, "list");
        for (std::size_t k = 0; k < list_length; ++k) {
          const bool whole = k < lost_after;
          check(list.infos[k].participants == (whole ? 3U : 2U) && list.infos[k].runs == 1,
                "participants: " + list.told());
          list.check_sum(k, whole ? 111.0F : sum_of({ranks[0], ranks[2]}));
        }
        check(list.info.uniform == (lost_after == 0 ? 1U : 0U) && list.info.participants == 2,
              "summary: " + list.told());
        check(list.info.items_committed == list_length && list.info.rounds == 1, "summary: " + list.told());
        check_in_step(comms[i], 2);
      });
    }
  }
}

TEST_CASE("a uniform list runs again what a lost member had a part in", "[many][loss]") {
  for (const bool in_place : {false, true}) {
    for (const std::size_t lost_after : {1U, 4U, 6U}) {
      const Coordinator coordinator(200);
      const auto comms = make_group(coordinator, 3);
      const auto ranks = ranks_of(comms);
      in_threads(3, [&](std::uint32_t i) {
        List list(ranks[i], in_place);
        if (i == 1) {
          for (std::size_t k = 0; k < lost_after; ++k)
            expect(list.reduce_one(comms[i], k, true), HAWSER_OK, "its part");
          return lose(comms[i]);
        }
        const hawser_op_options_t options = uniform_options();
        expect(list.reduce(comms[i], i == 0 ? 1 : 4, &options), HAWSER_OK, "list");
        for (std::size_t k = 0; k < list_length; ++k) {
          list.check_sum(k, sum_of({ranks[0], ranks[2]}));
          check(list.infos[k].participants == 2 && list.infos[k].runs == (k < lost_after ? 2U : 1U),
                "info: " + list.told());
        }
        if (!in_place) list.check_inputs();
        check(list.info.uniform == 1 && list.info.participants == 2 && list.info.rounds == 2,
              "summary: " + list.told());
        check(list.info.items_rerun == lost_after, "reruns: " + list.told());
        check_in_step(comms[i], 2);
      });
    }
  }
}

TEST_CASE("a uniform list survives another loss while it runs again", "[many][loss]") {
  constexpr std::size_t first_lost_after = 4;
  constexpr std::size_t second_lost_after = 3;  // of the items that run again
  const Coordinator coordinator(200);
  const auto comms = make_group(coordinator, 4);
  const auto ranks = ranks_of(comms);
  in_threads(4, [&](std::uint32_t i) {
    List list(ranks[i], true);
    if (i == 1) {
      for (std::size_t k = 0; k < first_lost_after; ++k)
        expect(list.reduce_one(comms[i], k, true), HAWSER_OK, "its part");
      return lose(comms[i]);
    }
    if (i == 2) {
      for (std::size_t k = 0; k < list_length; ++k) expect(list.reduce_one(comms[i], k, true), HAWSER_OK, "its part");
      for (std::size_t k = 0; k < second_lost_after; ++k)
        expect(list.reduce_one(comms[i], k, true), HAWSER_OK, "again");
      return lose(comms[i]);
    }
    const hawser_op_options_t options = uniform_options();
    expect(list.reduce(comms[i], 3, &options), HAWSER_OK, "list");
    for (std::size_t k = 0; k < list_length; ++k) {
      list.check_sum(k, sum_of({ranks[0], ranks[3]}));
      const std::uint32_t runs = k < second_lost_after ? 3 : 2;
      check(list.infos[k].participants == 2 && list.infos[k].runs == runs, "info: " + list.told());
    }
    check(list.info.uniform == 1 && list.info.rounds == 3, "summary: " + list.told());
    check(list.info.items_rerun == first_lost_after + list_length - 1, "reruns: " + list.told());
    check_in_step(comms[i], 2);
  });
}

TEST_CASE("residuals of a uniform list are those of the run that counts", "[many][loss]") {
  constexpr std::size_t count = 20000;
  struct Tensor {
    std::vector<float> data;
    hawser_residual_t* residual = nullptr;
    hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
  };
  const auto reduce = [](const Comm& comm, std::uint32_t rank, const hawser_op_options_t* options, std::size_t singly,
                         std::vector<std::vector<float>>& out) {
    std::vector<Tensor> tensors(3);
    std::vector<hawser_many_item_t> items;
    for (std::size_t k = 0; k < tensors.size(); ++k) {
      Tensor& tensor = tensors[k];
      for (std::size_t i = 0; i < count; ++i) {
        tensor.data.push_back(part_of(rank) * static_cast<float>((i * 31 + k * 7) % 101) / 97.0F);
      }
      expect(hawser_residual_create(count, &tensor.residual), HAWSER_OK, "residual");
      tensor.compression.codec = HAWSER_CODEC_INT4;
      tensor.compression.residual = tensor.residual;
      items.push_back({sizeof(hawser_many_item_t), tensor.data.data(), tensor.data.data(), count, HAWSER_F32,
                       HAWSER_SUM, &tensor.compression});
    }
    for (std::size_t k = 0; k < singly; ++k) {
      const hawser_op_options_t one = uniform_options();
      expect(hawser_all_reduce_many(comm.get(), &items[k], 1, 1, &one, nullptr, nullptr), HAWSER_OK, "single");
    }
    if (singly == 0) {
      expect(hawser_all_reduce_many(comm.get(), items.data(), items.size(), 2, options, nullptr, nullptr), HAWSER_OK,
             "list");
    }
    for (Tensor& tensor : tensors) {
      out.push_back(tensor.data);
      std::vector<float> left(count);
      expect(hawser_residual_read(tensor.residual, left.data(), count), HAWSER_OK, "read");
      out.push_back(left);
      hawser_residual_destroy(tensor.residual);
    }
  };
  const Coordinator coordinator(200);
  const auto comms = make_group(coordinator, 3);
  const auto ranks = ranks_of(comms);
  in_threads(3, [&](std::uint32_t i) {
    std::vector<std::vector<float>> lossy;
    std::vector<std::vector<float>> calm;
    const hawser_op_options_t options = uniform_options();
    if (i == 1) {
      reduce(comms[i], ranks[i], nullptr, 2, lossy);
      return lose(comms[i]);
    }
    reduce(comms[i], ranks[i], &options, 0, lossy);
    reduce(comms[i], ranks[i], nullptr, 0, calm);
    check(lossy == calm, "results and residuals are those of a list without a loss");
    check(calm[1] != std::vector<float>(count, 0.0F), "there is a residual");
  });
}

TEST_CASE("strict: a loss in the middle of a list is PEER_LOST, and a uniform one can be made again whole",
          "[many][loss]") {
  constexpr std::size_t lost_after = 3;
  for (const bool uniform : {false, true}) {
    const Coordinator coordinator(200);
    const auto comms = make_group(coordinator, 3);
    const auto ranks = ranks_of(comms);
    in_threads(3, [&](std::uint32_t i) {
      List list(ranks[i], true);
      if (i == 1) {
        for (std::size_t k = 0; k < lost_after; ++k) {
          expect(list.reduce_one(comms[i], k, uniform, HAWSER_POLICY_STRICT), HAWSER_OK, "its part");
        }
        return lose(comms[i]);
      }
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.policy = HAWSER_POLICY_STRICT;
      options.flags = uniform ? HAWSER_OP_UNIFORM : 0;
      const hawser_status_t status = list.reduce(comms[i], 2, &options);
      if (!uniform) {  // an item in flight is lost; when there was none, all is well but not uniform
        check(status == HAWSER_PEER_LOST || status == HAWSER_OK, "list");
        check(list.info.uniform == 0, "uniform: " + list.told());
        for (std::size_t k = 0; k < list_length; ++k) {
          const hawser_op_info_t& info = list.infos[k];
          if (info.status == HAWSER_OK) {
            list.check_sum(k, info.participants == 3 ? 111.0F : sum_of({ranks[0], ranks[2]}));
          } else {
            check(info.status == HAWSER_PEER_LOST && list.sends[k] == list.inputs[k], "a lost item");
          }
        }
        return check_in_step(comms[i], 2);
      }
      expect(status, HAWSER_PEER_LOST, "list");
      list.check_inputs();
      check(list.info.items_committed == 0 && list.info.uniform == 0, "nothing is committed: " + list.told());
      for (const hawser_op_info_t& info : list.infos)
        check(info.status != HAWSER_OK, "nothing is committed: " + list.told());
      expect(list.reduce(comms[i], 2, &options), HAWSER_OK, "again");
      for (std::size_t k = 0; k < list_length; ++k) list.check_sum(k, sum_of({ranks[0], ranks[2]}));
    });
  }
}

TEST_CASE("an item that fails: the others are reduced, or with the flag none is", "[many]") {
  const Coordinator coordinator(200);
  const auto comms = make_group(coordinator, 3);
  const auto ranks = ranks_of(comms);
  for (const bool uniform : {false, true}) {
    in_threads(3, [&](std::uint32_t i) {
      List list(ranks[i], true);
      if (i == 2) list.items[4].count -= 1;
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.flags = uniform ? HAWSER_OP_UNIFORM : 0;
      expect(list.reduce(comms[i], 1 + i, &options), HAWSER_MISMATCH, "list");
      check(std::string(hawser_last_error()).find("400000") != std::string::npos, hawser_last_error());
      check(list.info.first_failed == 4 && list.info.uniform == 0, "summary: " + list.told());
      check(list.info.items_committed == (uniform ? 0 : list_length - 1), "committed: " + list.told());
      for (std::size_t k = 0; k < list_length; ++k) {
        if (!uniform && k != 4) {
          list.check_sum(k, 111.0F);
        } else {
          check(list.infos[k].status != HAWSER_OK && list.sends[k] == list.inputs[k], "not committed");
        }
      }
      check(list.infos[4].status == HAWSER_MISMATCH, "status of the item");
      if (uniform) check(list.infos[0].status == HAWSER_CANCELLED, "status of an item that is kept from its caller");
      check_in_step(comms[i], 3);
    });
  }
}

TEST_CASE("members that disagree on the flag are told so", "[many]") {
  const Coordinator coordinator(200);
  const auto comms = make_group(coordinator, 2);
  const auto ranks = ranks_of(comms);
  in_threads(2, [&](std::uint32_t i) {
    List list(ranks[i], true);
    const hawser_op_options_t options = uniform_options();
    expect(list.reduce(comms[i], 2, i == 0 ? &options : nullptr), HAWSER_MISMATCH, "list");
    check(std::string(hawser_last_error()).find(" uniform") != std::string::npos, hawser_last_error());
    list.check_inputs();
  });
}

TEST_CASE("the deadline is that of the whole list", "[many]") {
  const Coordinator coordinator(200);
  const auto comms = make_group(coordinator, 2);
  for (const bool uniform : {false, true}) {
    std::atomic<bool> over{false};
    in_threads(2, [&](std::uint32_t i) {
      List list(i, true);
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.flags = uniform ? HAWSER_OP_UNIFORM : 0;
      if (i == 1) {
        over.wait(false);
        expect(list.reduce(comms[i], 2, &options), HAWSER_TIMEOUT, "the late one");
      } else {
        options.timeout_ms = 300;
        const auto begin = std::chrono::steady_clock::now();
        expect(list.reduce(comms[i], 2, &options), HAWSER_TIMEOUT, "the one that waits");
        check(std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(300) + std::chrono::seconds(2),
              "one deadline, not one for each item");
        over = true;
        over.notify_all();
      }
      list.check_inputs();
      check(list.info.items_committed == 0 && list.info.first_failed == 0, "summary: " + list.told());
      check_in_step(comms[i], 2);
    });
  }
}

TEST_CASE("a blocking call ends when its caller is interrupted", "[many]") {
  struct Asked {
    std::atomic<int> times{0};
    static int say_yes(void* context) {
      ++static_cast<Asked*>(context)->times;
      return 1;
    }
  };
  const Coordinator coordinator(200);
  const auto comms = make_group(coordinator, 2);
  for (const bool list_of_them : {false, true}) {
    std::atomic<bool> over{false};
    in_threads(2, [&](std::uint32_t i) {
      List list(i, true);
      const auto call = [&](const hawser_op_options_t* options) {
        if (list_of_them) return list.reduce(comms[i], 3, options);
        return hawser_all_reduce(comms[i].get(), list.sends[1].data(), list.sends[1].data(), counts[1], HAWSER_F32,
                                 HAWSER_SUM, options, nullptr);
      };
      if (i == 1) {
        over.wait(false);
        expect(call(nullptr), HAWSER_CANCELLED, "the other one");
      } else {
        Asked asked;
        hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
        options.interrupted = Asked::say_yes;
        options.interrupted_context = &asked;
        expect(call(&options), HAWSER_CANCELLED, "the interrupted one");
        check(asked.times > 0, "asked");
        over = true;
        over.notify_all();
      }
      list.check_inputs();
      check_in_step(comms[i], 2);
    });
  }
}

TEST_CASE("a list with a mistake in it starts nothing", "[many]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 1);
  hawser_comm_t* comm = comms[0].get();
  const auto refused = [&](const auto& change, hawser_status_t wanted, const std::string& word) {
    std::vector<float> memory(64, 1.0F);
    std::vector<hawser_many_item_t> items(3, HAWSER_MANY_ITEM_INIT);
    for (std::size_t k = 0; k < 3; ++k) {
      items[k].send = items[k].recv = memory.data() + 16 * k;
      items[k].count = 16;
    }
    std::vector<hawser_op_info_t> infos(3, HAWSER_OP_INFO_INIT);
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    std::size_t in_flight = 0;
    change(items, infos, options, in_flight);
    const hawser_status_t status =
        hawser_all_reduce_many(comm, items.data(), items.size(), in_flight, &options, infos.data(), nullptr);
    INFO(hawser_last_error());
    CHECK(status == wanted);
    CHECK(std::string(hawser_last_error()).find(word) != std::string::npos);
    CHECK(memory == std::vector<float>(64, 1.0F));
    hawser_metrics_t metrics = HAWSER_METRICS_INIT;
    REQUIRE(hawser_comm_metrics(comm, &metrics) == HAWSER_OK);
    CHECK(metrics.ops_committed + metrics.ops_failed == 0);
  };
  const auto item = [&](const auto& change, const std::string& word) {
    refused([&](auto& items, auto&, auto&, auto&) { change(items); }, HAWSER_INVALID_ARGUMENT, word);
  };
  item([](auto& items) { items[1].size = 0; }, "items[1]");
  item([](auto& items) { items[2].dtype = 77; }, "items[2]");
  item([](auto& items) { items[2].redop = 5; }, "redop 5");
  item([](auto& items) { items[0].recv = nullptr; }, "recv is NULL");
  item(
      [](auto& items) {
        items[1].recv = items[0].recv;
        items[1].send = items[1].recv;
      },
      "items[0] and items[1]");
  item([](auto& items) { items[2].send = items[0].send; }, "items[0] and items[2]");
  item([](auto& items) { items[0].count = 33; }, "overlap");
  refused([](auto&, auto& infos, auto&, auto&) { infos[1].size = 1; }, HAWSER_INVALID_ARGUMENT, "infos_out[1]");
  refused([](auto&, auto&, auto&, auto& in_flight) { in_flight = 1025; }, HAWSER_INVALID_ARGUMENT, "in_flight_max");
  refused([](auto&, auto&, auto& options, auto&) { options.flags = 6; }, HAWSER_UNSUPPORTED, "flags");
  CHECK(hawser_all_reduce_many(comm, nullptr, 1, 0, nullptr, nullptr, nullptr) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_all_reduce_many(nullptr, nullptr, 0, 0, nullptr, nullptr, nullptr) == HAWSER_INVALID_HANDLE);

  hawser_residual_t* residual = nullptr;
  REQUIRE(hawser_residual_create(16, &residual) == HAWSER_OK);
  hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
  compression.codec = HAWSER_CODEC_INT8;
  compression.residual = residual;
  refused([&](auto& items, auto&, auto&, auto&) { items[0].compression = items[2].compression = &compression; },
          HAWSER_INVALID_ARGUMENT, "items[2] has the residual");
  hawser_residual_destroy(residual);

  // What is for lists or for blocking calls only.
  float one = 1.0F;
  hawser_op_options_t options = uniform_options();
  CHECK(hawser_all_reduce(comm, &one, &one, 1, HAWSER_F32, HAWSER_SUM, &options, nullptr) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_barrier(comm, &options, nullptr) == HAWSER_INVALID_ARGUMENT);
  options = HAWSER_OP_OPTIONS_INIT;
  options.interrupted = [](void*) { return 0; };
  hawser_op_t* op = nullptr;
  CHECK(hawser_barrier_start(comm, &options, &op) == HAWSER_INVALID_ARGUMENT);
  CHECK(op == nullptr);
}

TEST_CASE("items and infos of other sizes than this library's", "[many]") {
  struct LongerItem {
    hawser_many_item_t item = HAWSER_MANY_ITEM_INIT;
    std::uint64_t newer = 0;
  };
  struct ShorterInfo {  // as far as attempts
    std::size_t size = sizeof(ShorterInfo);
    std::uint64_t view = 0;
    std::uint32_t participants = 0;
    std::uint32_t attempts = 0;
  };
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 1);
  std::array<float, 3> data = {1.0F, 2.0F, 3.0F};
  std::array<float, 3> out = {};
  std::array<LongerItem, 3> items;
  std::array<ShorterInfo, 3> infos;
  for (std::size_t k = 0; k < 3; ++k) {
    items[k].item.size = sizeof(LongerItem);
    items[k].item.send = &data[k];
    items[k].item.recv = &out[k];
    items[k].item.count = 1;
  }
  const auto reduce = [&] {
    return hawser_all_reduce_many(comms[0].get(), &items[0].item, 3, 0, nullptr,
                                  reinterpret_cast<hawser_op_info_t*>(infos.data()), nullptr);
  };
  REQUIRE(reduce() == HAWSER_OK);
  CHECK(out == data);
  for (const ShorterInfo& info : infos) {
    CHECK(info.size == sizeof(ShorterInfo));
    CHECK(info.participants == 1);
    CHECK(info.attempts == 1);
  }
  items[1].newer = 1;
  CHECK(reduce() == HAWSER_UNSUPPORTED);
}
