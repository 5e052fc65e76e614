// Names and sentences of the public status list.
#include "base/status.hpp"

namespace hawser {

const char* code_name(Code code) {
  switch (code) {
#define HAWSER_CASE_(name, value, category, sentence) \
  case Code::name:                                    \
    return #name;
    HAWSER_STATUS_LIST(HAWSER_CASE_)
#undef HAWSER_CASE_
  }
  return "UNKNOWN";
}

const char* code_sentence(Code code) {
  switch (code) {
#define HAWSER_CASE_(name, value, category, sentence) \
  case Code::name:                                    \
    return sentence;
    HAWSER_STATUS_LIST(HAWSER_CASE_)
#undef HAWSER_CASE_
  }
  return "unknown status";
}

}  // namespace hawser
