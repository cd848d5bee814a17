#include "geometry.h"

#include <map>
#include <utility>
#include <vector>

#include "lock.h"

namespace blurfft {

template <class T>
RowGroups row_groups(int64_t height, int lanes) {
  struct Owned {
    std::vector<int32_t> row, mirror;
    int groups;
    bool united;
  };
  static auto* cache = new std::map<std::pair<int64_t, int>, Owned>;
  const auto view = [](const Owned& o) -> RowGroups { return {o.groups, o.united, o.row.data(), o.mirror.data()}; };
  const int32_t* position = line<T>(height).position;
  std::lock_guard<std::mutex> lock(fork_safe_mutex<Owned>());
  if (const auto found = cache->find({height, lanes}); found != cache->end()) return view(found->second);
  const int64_t middle = height / 2;
  Owned owned;
  owned.united = height % 2 == 0 && middle % lanes == 0;
  const int64_t rows = middle + 1 - owned.united;
  owned.groups = static_cast<int>((rows + lanes - 1) / lanes);
  owned.row.assign(owned.groups * lanes, static_cast<int32_t>(height));
  owned.mirror = owned.row;
  for (int64_t f1 = 0; f1 < rows; ++f1) {
    owned.row[f1] = position[f1];
    owned.mirror[f1] = position[f1 ? height - f1 : owned.united ? middle : 0];
  }
  return view(cache->emplace(std::pair{height, lanes}, std::move(owned)).first->second);
}

template RowGroups row_groups<float>(int64_t, int);
template RowGroups row_groups<double>(int64_t, int);

}  // namespace blurfft
