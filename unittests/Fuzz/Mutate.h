// Changes to a model that leave it a well-formed message: a fuzzer that only flips bytes spends its
// time on messages that do not parse.
#pragma once
#include "google/protobuf/message.h"

#include <random>

namespace moec::fuzz {

/// Makes one random change somewhere in the message: a field is cleared, set, copied from a field
/// of the same kind elsewhere, or an element of a list is removed, repeated or moved.
void mutate(google::protobuf::Message &message, std::mt19937 &random);

} // namespace moec::fuzz
