// A profile for people: as text for a terminal, as JSON for programs, as a page for a browser.
#pragma once
#include "moec/Analysis/Profile.h"

namespace moec {

/// Tables of labels and layers, super experts, warnings; lines of about 100 columns.
std::string profileText(const Profile &profile);

/// The derived numbers of Derived.h as one JSON object; docs/profile.md shows its form. Numbers
/// that do not exist are null.
std::string profileJson(const Profile &profile);

/// One self-contained HTML page (no other files, no network; light and dark): heat maps of load by
/// label, balance and router confidence by layer, co-activation and similarity matrices, super
/// experts, warnings. Below 10 MB whatever the profile's size: matrices of very large models are
/// shown in blocks of experts, and only the labels with most tokens have a heat map of their own.
std::string profilePage(const Profile &profile);

} // namespace moec
