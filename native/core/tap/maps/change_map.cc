#include "core/tap/maps/change_map.h"

#include <algorithm>
#include <utility>

namespace stillpoint {

ChangeMap::ChangeMap(const TreeGeometry& geometry, std::unique_ptr<BlockMap> changed,
                     std::unique_ptr<MapFile> file, Start start)
    : maps_{BlockMap(geometry.block_count()), BlockMap(geometry.block_count())},
      current_(&maps_[0]),
      backup_(std::move(changed)),
      file_(std::move(file)),
      points_(std::move(start.points)),
      reason_(std::move(start.reason)) {}

std::vector<Id> ChangeMap::points() const {
  std::lock_guard lock(mutex_);
  return points_;
}

std::string ChangeMap::reason() const {
  std::lock_guard lock(mutex_);
  return reason_;
}

bool ChangeMap::knows(const Id& point) const {
  std::lock_guard lock(mutex_);
  return std::find(points_.begin(), points_.end(), point) != points_.end();
}

BlockMap& ChangeMap::other() { return current_ == &maps_[0] ? maps_[1] : maps_[0]; }

void ChangeMap::begin(const Id& session) {
  // The last cut, merged long ago.
  other().clear();
  std::vector<Id> points = this->points();
  // Without a point the map is void, and nothing has been written down that this session could rely on.
  if (points.empty()) return;
  // The oldest session gives way; the committed point, in front, stays.
  if (points.size() == MapHeader::kPointsMax) points.erase(points.begin() + 1);
  points.push_back(session);
  if (file_) file_->set_points(points);
  std::lock_guard lock(mutex_);
  points_ = std::move(points);
}

void ChangeMap::cut() { current_ = &other(); }

void ChangeMap::merge() { backup_->merge(other()); }

void ChangeMap::commit(const Id& session) {
  if (file_) file_->rebase({session}, *current_.load());
  backup_->clear();
  std::lock_guard lock(mutex_);
  points_ = {session};
  reason_ = "it holds all changes since the last committed point";
}

void ChangeMap::adopt(const Id& point, bool complete) {
  if (!complete) current_.load()->merge(*backup_);
  const std::vector<Id> points = complete ? std::vector<Id>{point} : this->points();
  if (file_) file_->rebase(points, *current_.load());
  backup_->clear();
  std::lock_guard lock(mutex_);
  points_ = points;
  reason_ = "it holds all changes since the point that the device was compared with";
}

void ChangeMap::make_void(const std::string& reason) {
  if (file_) file_->set_points({});
  std::lock_guard lock(mutex_);
  points_.clear();
  reason_ = reason;
}

int ChangeMap::close_clean(const std::string& continuity, const Id& journal) {
  return file_ ? file_->close_clean({backup_.get(), current_.load()}, continuity, journal) : 0;
}

}  // namespace stillpoint
