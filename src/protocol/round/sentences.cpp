// Sentences; see the header.
#include "protocol/round/sentences.hpp"

#include <fmt/format.h>

namespace hawser::protocol {
namespace {

using wire::OpParams;

const char* kind_name(wire::OpKind kind) {
  switch (kind) {
    case wire::OpKind::all_reduce:
      return "all_reduce";
    case wire::OpKind::broadcast:
      return "broadcast";
    case wire::OpKind::barrier:
      return "barrier";
    case wire::OpKind::sync:
      return "state_sync";
    case wire::OpKind::check:
      return "state_check";
  }
  return "?";
}

// Numbers of codecs and roundings are those of hawser_codec_t; a newer peer may know more of them.
std::string compression(const OpParams& params) {
  constexpr const char* names[] = {"none", "bf16", "f16", "int8", "int4", "minmax8"};
  if (params.codec == 0) return "";
  std::string text = ", ";
  text += params.codec < std::size(names) ? names[params.codec] : fmt::format("codec {}", params.codec);
  if (params.block > 1) text += fmt::format(" in blocks of {}", params.block);
  if (params.rounding != 0) text += ", stochastic rounding";
  return text;
}

}  // namespace

std::string describe(const OpParams& params) {
  std::string text = kind_name(params.kind);
  if (params.kind == wire::OpKind::all_reduce) {
    text += fmt::format("(count {}, {}, {}{}{})", params.count, dtype_name(params.dtype), redop_name(params.redop),
                        params.weighted != 0 ? ", weighted" : "", compression(params));
  } else if (params.kind == wire::OpKind::broadcast) {
    text += fmt::format("(count {}, {}, root {})", params.count, dtype_name(params.dtype), short_name(params.root));
  }
  if (params.uniform != 0) text += " uniform";
  if (params.strict != 0) text += " strict";
  if (params.min_participants != 0) text += fmt::format(" min_participants {}", params.min_participants);
  return text;
}

std::string describe(const wire::OpKey& key) {
  return key.tag == 0 ? fmt::format("untagged call {}", key.sequence)
                      : fmt::format("call {} of tag {}", key.sequence, key.tag);
}

std::string disagreement(const wire::OpKey& key, const std::string& one, const OpParams& ones, const std::string& other,
                         const OpParams& others) {
  return fmt::format("members disagree on {}: {} calls {}, {} calls {}", describe(key), one, describe(ones), other,
                     describe(others));
}

}  // namespace hawser::protocol
