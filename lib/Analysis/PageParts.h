// The parts of a profile's page that do not depend on the profile, and its data. Internal to
// Analysis.
#pragma once
#include "Summary.h"

#include <nlohmann/json_fwd.hpp>

namespace moec {

/// Reads the JSON of element "data", fills the page; uses kPageTools.
extern const char *const kPageScript;

/// What kPageScript reads. Of bounded size, whatever the profile's.
nlohmann::json pageData(const Profile &profile, const Summary &summary);

} // namespace moec
