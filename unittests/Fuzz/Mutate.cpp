#include "Mutate.h"

#include <limits>
#include <memory>
#include <vector>

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

namespace {

struct Mutator {
  std::mt19937 &random;
  std::vector<Message *> messages;   // all of the model
  std::vector<std::string> strings;  // that occur in it

  size_t below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); }
  bool coin() { return below(2) == 0; }

  void collect(Message &message) {
    messages.push_back(&message);
    std::vector<const FieldDescriptor *> fields;
    const Reflection &r = *message.GetReflection();
    r.ListFields(message, &fields);
    for (const FieldDescriptor *field : fields) {
      bool list = field->is_repeated();
      int count = list ? r.FieldSize(message, field) : 1;
      if (field->type() == FieldDescriptor::TYPE_STRING)
        for (int i = 0; i < count; ++i)
          strings.push_back(list ? r.GetRepeatedString(message, field, i)
                                 : r.GetString(message, field));
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE)
        for (int i = 0; i < count; ++i)
          collect(list ? *r.MutableRepeatedMessage(&message, field, i)
                       : *r.MutableMessage(&message, field));
    }
  }

  int64_t number(int64_t now) {
    static constexpr int64_t kOdd[] = {0, 1, -1, 2, 3, 7, 16, 64, 65536, 1 << 30, int64_t(1) << 31,
                                       int64_t(1) << 33, int64_t(1) << 62,
                                       std::numeric_limits<int64_t>::max(),
                                       std::numeric_limits<int64_t>::min()};
    switch (below(4)) {
    case 0: return static_cast<int64_t>(static_cast<uint64_t>(now) + 1);
    case 1: return static_cast<int64_t>(static_cast<uint64_t>(now) - 1);
    case 2: return static_cast<int64_t>(below(32));
    default: return kOdd[below(std::size(kOdd))];
    }
  }

  std::string text(std::string now, bool data) {
    if (!data && coin() && !strings.empty())
      return strings[below(strings.size())];
    switch (below(4)) {
    case 0: return "";
    case 1: return now + now;
    case 2: return now.substr(0, below(now.size() + 1));
    default:
      if (!now.empty())
        now[below(now.size())] = static_cast<char>(below(256));
      return now;
    }
  }

  double real() {
    static constexpr double kOdd[] = {0, 1, -1, 0.5, 1e-30, 1e30, 1e300, -1e300};
    size_t i = below(std::size(kOdd) + 1);
    return i < std::size(kOdd) ? kOdd[i] : std::numeric_limits<double>::quiet_NaN();
  }

  // A copy of a message of that type, from anywhere. Taken before anything is changed: a change may
  // free messages that were collected.
  std::unique_ptr<Message> sample(const google::protobuf::Descriptor *type) {
    std::vector<Message *> same;
    for (Message *m : messages)
      if (m->GetDescriptor() == type)
        same.push_back(m);
    if (same.empty())
      return nullptr;
    const Message &chosen = *same[below(same.size())];
    std::unique_ptr<Message> copy(chosen.New());
    copy->CopyFrom(chosen);
    return copy;
  }

  void set(Message &m, const FieldDescriptor *f) {
    const Reflection &r = *m.GetReflection();
    switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.SetInt32(&m, f, static_cast<int32_t>(number(r.GetInt32(m, f))));
    case FieldDescriptor::CPPTYPE_INT64:
      return r.SetInt64(&m, f, number(r.GetInt64(m, f)));
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.SetEnumValue(&m, f, static_cast<int>(below(16)));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r.SetFloat(&m, f, static_cast<float>(real()));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.SetDouble(&m, f, real());
    case FieldDescriptor::CPPTYPE_STRING:
      return r.SetString(&m, f, text(r.GetString(m, f), f->type() == FieldDescriptor::TYPE_BYTES));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (auto copy = sample(f->message_type()))
        r.MutableMessage(&m, f)->CopyFrom(*copy);
      return;
    default:
      return;
    }
  }

  void setElement(Message &m, const FieldDescriptor *f, int i) {
    const Reflection &r = *m.GetReflection();
    switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.SetRepeatedInt32(&m, f, i, static_cast<int32_t>(number(r.GetRepeatedInt32(m, f, i))));
    case FieldDescriptor::CPPTYPE_INT64:
      return r.SetRepeatedInt64(&m, f, i, number(r.GetRepeatedInt64(m, f, i)));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r.SetRepeatedFloat(&m, f, i, static_cast<float>(real()));
    case FieldDescriptor::CPPTYPE_STRING:
      return r.SetRepeatedString(&m, f, i, text(r.GetRepeatedString(m, f, i), false));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (auto copy = sample(f->message_type()))
        r.MutableRepeatedMessage(&m, f, i)->CopyFrom(*copy);
      return;
    default:
      return;
    }
  }

  void add(Message &m, const FieldDescriptor *f) {
    const Reflection &r = *m.GetReflection();
    int last = r.FieldSize(m, f);
    switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: r.AddInt32(&m, f, 0); break;
    case FieldDescriptor::CPPTYPE_INT64: r.AddInt64(&m, f, 0); break;
    case FieldDescriptor::CPPTYPE_FLOAT: r.AddFloat(&m, f, 0); break;
    case FieldDescriptor::CPPTYPE_STRING: r.AddString(&m, f, ""); break;
    case FieldDescriptor::CPPTYPE_MESSAGE: r.AddMessage(&m, f); break;
    default: return;
    }
    setElement(m, f, last);
  }

  void change(Message &m) {
    const Reflection &r = *m.GetReflection();
    std::vector<const FieldDescriptor *> fields;
    if (below(4) == 0) { // a field that may be absent
      for (int i = 0; i < m.GetDescriptor()->field_count(); ++i)
        fields.push_back(m.GetDescriptor()->field(i));
    } else {
      r.ListFields(m, &fields);
    }
    if (fields.empty())
      return;
    const FieldDescriptor *f = fields[below(fields.size())];
    if (!f->is_repeated())
      return below(4) == 0 ? r.ClearField(&m, f) : set(m, f);
    int count = r.FieldSize(m, f);
    if (count == 0)
      return add(m, f);
    int i = static_cast<int>(below(static_cast<size_t>(count)));
    switch (below(5)) {
    case 0:
      r.SwapElements(&m, f, i, count - 1);
      return r.RemoveLast(&m, f);
    case 1:
      return r.SwapElements(&m, f, i, static_cast<int>(below(static_cast<size_t>(count))));
    case 2:
      return add(m, f);
    default:
      return setElement(m, f, i);
    }
  }
};

} // namespace

void moec::fuzz::mutate(Message &message, std::mt19937 &random) {
  Mutator mutator{random, {}, {}};
  mutator.collect(message);
  mutator.change(*mutator.messages[mutator.below(mutator.messages.size())]);
}
