// Files that lie.
#pragma once
#include <random>
#include <string>

namespace moec {

/// Random damage: a byte, a number of the header, a cut, an insertion.
inline std::string damage(std::string content, std::mt19937 &random) {
  auto at = [&] { return size_t(random() % content.size()); };
  for (int changes = 1 + int(random() % 3); changes && !content.empty(); --changes)
    switch (random() % 6) {
    case 0:
      content[at()] = char(random());
      break;
    case 1:
      content[at()] ^= char(1 << (random() % 8));
      break;
    case 2:
      content.resize(at());
      break;
    case 3:
      content.insert(at(), content.substr(at(), random() % 40));
      break;
    case 4:
      content.erase(at(), random() % 40);
      break;
    case 5: {
      size_t digit = content.find_first_of("0123456789", at());
      if (digit != std::string::npos)
        content[digit] = char('0' + random() % 10);
    }
    }
  return content;
}

} // namespace moec
