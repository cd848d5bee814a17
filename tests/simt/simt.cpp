// The emulator: fibers and their barriers, the shadow of memory, and the callbacks that the compiler puts before every
// memory access of a kernel. Compiled without -fsanitize, so that nothing in here is checked.
#include "simt.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <map>
#include <memory>
#include <random>

// Set on every resumption; the header declares them constant, as a thread sees them.
extern "C" {
uint3 simt_thread_index;
uint3 simt_block_index;
dim3 simt_block_size;
dim3 simt_grid_size;
}

namespace simt {
namespace {

// Fibers -------------------------------------------------------------------------------------------------------------

// Saves the registers that calls preserve on the stack, stores the stack pointer in *from and continues where `to` was
// saved.
extern "C" void simt_switch(void** from, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.type simt_switch, @function
simt_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size simt_switch, .-simt_switch
)");
constexpr size_t return_word = 6;
constexpr size_t frame_words = 8;  // a function is entered with the stack 8 bytes off 16
#elif defined(__aarch64__)
asm(R"(
.text
.type simt_switch, %function
simt_switch:
  stp x19, x20, [sp, #-160]!
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  ldp x19, x20, [sp], #160
  ret
.size simt_switch, .-simt_switch
)");
constexpr size_t return_word = 11;  // x30
constexpr size_t frame_words = 20;
#else
#error "the emulator knows how to switch stacks on x86-64 and aarch64"
#endif

struct Site {
  const char* file = nullptr;
  int line = 0;
  bool operator==(const Site& other) const { return line == other.line && !strcmp(file, other.file); }
};

struct Warp;
struct Block;

struct Fiber {
  void* stack_pointer;
  char* stack;
  Block* block;
  Warp* warp;
  uint3 index;
  uint32_t id;     // block number * max_threads + number in the block
  uint32_t clock;  // of its last __syncwarp
  unsigned lane;   // in the warp
  enum { running, waits, exited } state;
  const char* waits_in;
  Site waits_at;
  uint64_t result;
  bool fenced;  // a __threadfence() since the last atomic
};

// Threads that have arrived at one __syncwarp, shuffle or vote.
struct Gathering {
  const char* what;
  Site site;
  unsigned mask, arrived;
  uint64_t values[32];
  struct Request {
    Shuffle kind;
    int argument, width;
  } requests[32];
};

struct Warp {
  unsigned lanes = 0;  // that exist
  Fiber* fibers[32];
  std::vector<Gathering> gatherings;
  // Which accesses of lane j lane i is ordered after: those with a clock below seen[i][j].
  uint32_t clock;
  uint32_t seen[32][32];
};

struct Barrier {
  unsigned arrived = 0, exited = 0;
  int sum = 0;
  Fiber* first = nullptr;
};

// What happened last to a 4-byte word (or to a smaller element, where elements are smaller). Epochs are numbered over
// all barriers of all blocks.
struct Cell {
  uint32_t write_epoch, write_thread, write_clock, write_site;
  uint32_t read_epoch, read_thread, read_clock, read_site;
  uint32_t read_lanes;
  uint8_t read_by;  // see Readers
  uint8_t atomic;   // the last write was
  uint8_t bytes;    // of the word that have been written
  uint8_t last;  // bytes that the last writer wrote; 0 if several threads wrote bytes of their own, and races are not
                 // looked for
};
enum Readers : uint8_t { one_warp, one_block, one_cluster, anyone };

struct Block {
  unsigned number, rank;
  uint3 index;
  uint32_t epoch, first_epoch;
  Barrier barrier;
  std::vector<Warp> warps;
  std::vector<Fiber> fibers;
  char* statics;  // its static shared memory while another block runs
  char* dynamic;
  std::vector<Cell> static_cells, dynamic_cells;
  uint32_t visitor, visit_site;  // the last access from another block since the last cluster barrier
  bool visited;
};

struct Lent {
  std::string name;
  uintptr_t begin, end;
  size_t element;
  Memory kind;
  unsigned granule;  // bytes a cell
  std::vector<Cell> cells;
};

// Where an access went, for messages.
struct Target {
  const Block* owner;  // of shared memory
  const Lent* lent;
  bool is_static;
  size_t byte;
};

constexpr uint32_t max_threads = 1024;
constexpr size_t stack_bytes = 128 << 10;
constexpr size_t stack_stride = stack_bytes + 17 * 64;  // so that equal depths lie in different sets of the cache
constexpr uint64_t canary = 0x5153544f4e434152;
constexpr size_t max_errors = 12;
constexpr size_t max_shared_bytes = 227 << 10;
constexpr unsigned max_cluster = 8;

thread_local char anchor;  // makes the thread-local segment exist

struct Emulator {
  // What callbacks look at first. Outside kernels the stack is everything.
  uintptr_t stack = 0;
  size_t stack_size = ~size_t(0);
  uintptr_t shared = 0;
  size_t shared_size = 0;
  uintptr_t statics = 0;
  size_t statics_size = 0;
  Lent* last_lent = nullptr;
  Fiber* fiber = nullptr;
  Block* block = nullptr;

  std::map<uintptr_t, std::unique_ptr<Lent>> lent;  // by end
  uintptr_t image_begin = 0, image_end = 0;

  Launch launch;
  uint64_t seed = 0;
  unsigned threads;  // a block
  uint32_t epoch = 1, launch_epoch, cluster_epoch;
  std::vector<std::unique_ptr<Block>> cluster;
  Barrier cluster_barrier;
  std::vector<Fiber*> ready;
  void* scheduler;
  bool aborted = false;
  std::mt19937_64 random{0};

  struct Release {
    uint32_t epoch = 0, thread = 0;
    uint64_t stamp = 0;
  };
  std::vector<Release> releases;  // by block number
  std::vector<uint64_t> acquired;
  uint64_t stamp = 0;

  struct Complaint {
    std::string text;
    size_t count;
  };
  std::map<std::pair<std::string, std::string>, size_t> known;  // (kind, place) -> index in complaints
  std::vector<Complaint> complaints;
  char* stacks = nullptr;
  size_t stacks_size = 0;
} e;

// Messages -----------------------------------------------------------------------------------------------------------

template <typename... A>
std::string format(const char* pattern, A... arguments) {
  char text[1024];
  snprintf(text, sizeof text, pattern, arguments...);
  return text;
}

std::string base_name(const char* path) {
  const char* slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

std::string place(const Site& site) { return base_name(site.file) + format(":%d", site.line); }

std::string run_command(const std::string& command) {
  std::string output;
  if (FILE* pipe = popen(command.c_str(), "r")) {
    char text[512];
    while (fgets(text, sizeof text, pipe)) output += text;
    pclose(pipe);
  }
  return output;
}

// The source line of a return address, which is given as an offset in this shared object.
std::string place(uint32_t site) {
  static std::map<uint32_t, std::string> known;
  if (auto found = known.find(site); found != known.end()) return found->second;
  Dl_info info{};
  dladdr(&e, &info);
  const std::string frames =
      run_command("addr2line -i -e '" + std::string(info.dli_fname) + format("' 0x%x 2>/dev/null", site - 1));
  std::string& result = known[site] = format("offset 0x%x", site);
  for (size_t begin = 0; begin < frames.size();) {  // innermost function first
    const size_t end = frames.find('\n', begin);
    const std::string line = base_name(frames.substr(begin, end - begin).c_str());
    if (line.compare(0, 7, "simt.h:") && line[0] != '?') return result = line.substr(0, line.find(' '));
    begin = end + 1;
  }
  return result;
}

std::string kernel_name(const void* kernel) {
  Dl_info info{};
  if (dladdr(kernel, &info) && info.dli_sname && info.dli_saddr == kernel) {
    int status = 0;
    char* demangled = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    const std::string name = status == 0 ? demangled : info.dli_sname;
    free(demangled);
    return name;
  }
  const std::string name = run_command(
      "addr2line -Cf -e '" + std::string(info.dli_fname) +
      format("' 0x%zx 2>/dev/null", size_t(uintptr_t(kernel) - reinterpret_cast<uintptr_t>(info.dli_fbase))));
  return name.substr(0, name.find('\n'));
}

std::string block_name(uint32_t number) {
  const dim3 grid = e.launch.grid;
  return format("block (%u,%u,%u)", number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y);
}

std::string thread_name(uint32_t id) {
  const dim3 block = e.launch.block;
  const uint32_t i = id % max_threads;
  return format("thread (%u,%u,%u) of ", i % block.x, i / block.x % block.y, i / block.x / block.y) +
         block_name(id / max_threads);
}

std::string target_name(const Target& target) {
  if (!target.lent) {
    const std::string which =
        format("byte %zu of the %s shared memory", target.byte, target.is_static ? "static" : "dynamic");
    return target.owner == e.block ? which : which + " of " + block_name(target.owner->number);
  }
  const char* kinds[] = {"input", "output", "scratch", "inout"};
  return format("element %zu of %s '%s' (%zu elements of %zu bytes)", target.byte / target.lent->element,
                kinds[int(target.lent->kind)], target.lent->name.c_str(),
                (target.lent->end - target.lent->begin) / target.lent->element, target.lent->element);
}

[[noreturn]] void abort_launch() {
  e.aborted = true;
  void* nowhere;
  simt_switch(&nowhere, e.scheduler);
  __builtin_unreachable();
}

void complain(const std::string& kind, const std::string& at, const std::string& text) {
  auto [position, is_new] = e.known.try_emplace({kind, at}, e.complaints.size());
  if (!is_new) {
    ++e.complaints[position->second].count;
    return;
  }
  e.complaints.push_back({kind + " at " + at + ": " + text, 0});
  if (e.complaints.size() >= max_errors && e.fiber) abort_launch();
}

[[noreturn]] void fail(const std::string& kind, const std::string& at, const std::string& text) {
  complain(kind, at, text);
  abort_launch();
}

void throw_complaints(const std::string& where) {
  std::string text = where;
  for (const auto& complaint : e.complaints) {
    text += "\n  " + complaint.text;
    if (complaint.count) text += format(" (and %zu more times)", complaint.count);
  }
  e.complaints.clear();
  e.known.clear();
  throw Error(text);
}

// Shadow of memory ---------------------------------------------------------------------------------------------------

enum class Access { read, write, atomic };

bool same_block(uint32_t a, uint32_t b) { return a / max_threads == b / max_threads; }
bool same_cluster(uint32_t a, uint32_t b) {
  return a / max_threads / e.launch.cluster == b / max_threads / e.launch.cluster;
}

// Whether an earlier access of `thread` is ordered before what the running thread does now.
bool ordered(uint32_t thread, uint32_t epoch, uint32_t clock) {
  const Fiber& self = *e.fiber;
  if (thread == self.id || epoch < e.launch_epoch) return true;
  if (same_block(thread, self.id)) {
    if (epoch < e.block->epoch) return true;
    return thread / 32 == self.id / 32 && self.warp->seen[self.lane][thread % 32] > clock;
  }
  if (same_cluster(thread, self.id) && epoch < e.cluster_epoch) return true;
  const uint32_t other = thread / max_threads;
  const auto& release = e.releases[other];
  return (epoch < release.epoch || (epoch == release.epoch && thread == release.thread)) &&
         e.acquired[e.block->number] > release.stamp;
}

// Whether all reads that the cell remembers are ordered before what the running thread does now, by a barrier of a
// block or more. Those before first_epoch are of blocks that had the same shared memory earlier.
bool reads_ordered(const Cell& cell, uint32_t first_epoch) {
  if (cell.read_epoch < first_epoch || cell.read_epoch < e.launch_epoch) return true;
  if (cell.read_by <= one_block && same_block(cell.read_thread, e.fiber->id)) return cell.read_epoch < e.block->epoch;
  return cell.read_by <= one_cluster && same_cluster(cell.read_thread, e.fiber->id) &&
         cell.read_epoch < e.cluster_epoch;
}

// Lanes whose reads are not ordered before what the running thread, of the same warp, does now.
unsigned concurrent_lanes(const Cell& cell) {
  unsigned lanes = 0;
  if (!(cell.read_lanes & ~(1u << e.fiber->lane))) return lanes;
  for (unsigned i = 0; i < 32; ++i) {
    if (cell.read_lanes >> i & 1 && i != e.fiber->lane && e.fiber->warp->seen[e.fiber->lane][i] <= cell.read_clock) {
      lanes |= 1u << i;
    }
  }
  return lanes;
}

[[gnu::noinline]] void report_race(const Target& target, const char* verb, uint32_t site, const char* other_verb,
                                   uint32_t other_thread, uint32_t other_site) {
  complain(target.lent ? "race in global memory" : "race in shared memory", place(site),
           thread_name(e.fiber->id) + " " + verb + " " + target_name(target) + ", which " + thread_name(other_thread) +
               " " + other_verb + " at " + place(other_site) + ", with nothing to order the two");
}

[[gnu::noinline]] void report_unwritten(const Target& target, uint32_t site) {
  complain("read of uninitialised memory", place(site),
           thread_name(e.fiber->id) + " reads " + target_name(target) + ", which nobody has written");
}

void remember_read(Cell& cell, uint32_t first_epoch, uint32_t site) {
  const Fiber& self = *e.fiber;
  const uint32_t epoch = e.block->epoch;
  if (cell.read_epoch == epoch && cell.read_thread / 32 == self.id / 32) {
    if (self.clock > cell.read_clock) {
      cell.read_lanes = concurrent_lanes(cell);
      cell.read_clock = self.clock;
    }
    cell.read_lanes |= 1u << self.lane;
  } else if (reads_ordered(cell, first_epoch)) {
    cell.read_by = one_warp;
    cell.read_lanes = 1u << self.lane;
    cell.read_epoch = epoch;
    cell.read_clock = self.clock;
  } else {
    const Readers by = same_block(cell.read_thread, self.id)     ? one_block
                       : same_cluster(cell.read_thread, self.id) ? one_cluster
                                                                 : anyone;
    if (by > cell.read_by) cell.read_by = by;
    cell.read_epoch = std::max(cell.read_epoch, epoch);
  }
  cell.read_thread = self.id;
  cell.read_site = site;
}

// `first_epoch`: writes before it do not count.
template <Access access>
inline void check_cell(Cell& cell, uint32_t first_epoch, uint8_t bytes, const Target& target, uint32_t site) {
  const Fiber& self = *e.fiber;
  const bool written = cell.write_epoch >= first_epoch;
  if (access != Access::write && (!written || (cell.bytes & bytes) != bytes)) [[unlikely]] {
    report_unwritten(target, site);
  }
  const bool concurrent =
      written && cell.write_thread != self.id && !ordered(cell.write_thread, cell.write_epoch, cell.write_clock);
  if (concurrent && (cell.last & bytes) && !(access == Access::atomic && cell.atomic)) [[unlikely]] {
    report_race(target, access == Access::read ? "reads" : "writes", site, "writes", cell.write_thread,
                cell.write_site);
  }
  if constexpr (access == Access::read) {
    remember_read(cell, first_epoch, site);
    return;
  }
  if (cell.read_epoch && bytes == 15 && !reads_ordered(cell, first_epoch)) {
    const bool within_warp = cell.read_by == one_warp && cell.read_thread / 32 == self.id / 32;
    const unsigned lanes = within_warp ? concurrent_lanes(cell) : ~0u;
    if (lanes) {
      const uint32_t reader = within_warp ? cell.read_thread / 32 * 32 + std::countr_zero(lanes) : cell.read_thread;
      report_race(target, "writes", site, "reads", reader, cell.read_site);
    }
  }
  cell.read_epoch = 0;
  cell.last = concurrent && !(cell.last & bytes) ? 0 : bytes;
  cell.bytes = written ? cell.bytes | bytes : bytes;
  cell.atomic = access == Access::atomic;
  cell.write_epoch = e.block->epoch;
  cell.write_thread = self.id;
  cell.write_clock = self.clock;
  cell.write_site = site;
}

template <Access access>
void check_cells(Cell* cells, unsigned granule, uint32_t first_epoch, size_t byte, size_t size, Target target,
                 uint32_t site) {
  for (size_t i = byte / granule; i * granule < byte + size; ++i) {
    uint8_t bytes = 15;
    if (granule == 4) {
      const size_t begin = std::max(byte, i * 4), end = std::min(byte + size, i * 4 + 4);
      bytes = uint8_t((1 << (end - i * 4)) - (1 << (begin - i * 4)));
    }
    target.byte = i * granule;
    check_cell<access>(cells[i], first_epoch, bytes, target, site);
  }
}

void visit(Block& owner, const Target& target, uint32_t site) {
  if (e.cluster_epoch < e.cluster[0]->first_epoch) {
    complain("cluster access before cluster.sync()", place(site),
             thread_name(e.fiber->id) + " touches " + target_name(target) + ", which may not have started");
  }
  if (owner.barrier.exited == e.threads) {
    complain("cluster access after exit", place(site),
             thread_name(e.fiber->id) + " touches " + target_name(target) + ", which has exited");
  }
  owner.visited = true;
  owner.visitor = e.fiber->id;
  owner.visit_site = site;
}

[[noreturn, gnu::noinline]] void fail_outside(uintptr_t address, size_t size, bool reads, uint32_t site) {
  std::string where = "in no lent memory";
  uintptr_t nearest = ~uintptr_t(0);
  for (const auto& [end, lent] : e.lent) {
    const bool before = address < lent->begin;
    const uintptr_t distance = before ? lent->begin - address : address + size - end;
    if (distance < nearest) {
      nearest = distance;
      where = format("%zu bytes %s %s '%s' (%zu elements of %zu bytes)", size_t(distance),
                     before ? "before the beginning of" : "past the end of", "the nearest,", lent->name.c_str(),
                     (end - lent->begin) / lent->element, lent->element);
    }
  }
  if (address - reinterpret_cast<uintptr_t>(e.stacks) < e.stacks_size) where = "in another thread's local variables";
  fail("access out of bounds", place(site),
       thread_name(e.fiber->id) + format(" %s %zu bytes ", reads ? "reads" : "writes", size) + where);
}

template <Access access>
[[gnu::noinline]] void check_shared(uintptr_t address, size_t size, uint32_t site) {
  Block* owner = e.block;
  bool is_static = address - e.statics < e.statics_size;
  size_t byte = address - e.statics;
  if (!is_static) {
    const size_t stride = e.shared_size / max_cluster;
    const size_t rank = (address - e.shared) / stride;
    if (rank >= e.cluster.size()) fail_outside(address, size, access == Access::read, site);
    owner = e.cluster[rank].get();
    byte = (address - e.shared) % stride;
    const size_t dynamic = owner->dynamic - owner->statics;
    if (owner != e.block && byte < e.statics_size) {
      is_static = true;
    } else {
      byte -= dynamic;  // below it: far out of bounds
    }
  }
  const size_t limit = is_static ? e.statics_size : e.launch.shared_bytes;
  const Target target{owner, nullptr, is_static, byte};
  if (byte >= limit || size > limit - byte) {
    fail("access out of bounds", place(site),
         thread_name(e.fiber->id) + format(" %s %zu bytes at byte %zd of the %s shared memory, which has %zu bytes",
                                           access == Access::read ? "reads" : "writes", size, ptrdiff_t(byte),
                                           is_static ? "static" : "dynamic", limit));
  }
  if (owner != e.block) visit(*owner, target, site);
  Cell* cells = (is_static ? owner->static_cells : owner->dynamic_cells).data();
  check_cells<access>(cells, 4, owner->first_epoch, byte, size, target, site);
}

template <Access access>
[[gnu::noinline]] void check_global(uintptr_t address, size_t size, uint32_t site) {
  Lent* lent = e.last_lent;
  if (!lent || address < lent->begin || address >= lent->end) {
    const auto found = e.lent.upper_bound(address);
    if (found == e.lent.end() || address < found->second->begin) {
      if (address - e.image_begin < e.image_end - e.image_begin && access == Access::read) return;  // tables
      fail_outside(address, size, access == Access::read, site);
    }
    e.last_lent = lent = found->second.get();
  }
  if (size > lent->end - address) fail_outside(address, size, access == Access::read, site);
  const size_t byte = address - lent->begin;
  const Target target{nullptr, lent, false, byte};
  if (lent->kind == Memory::input) {
    if (access != Access::read) {
      fail("write to an input", place(site), thread_name(e.fiber->id) + " writes " + target_name(target));
    }
    return;
  }
  check_cells<access>(lent->cells.data(), lent->granule, 1, byte, size, target, site);
}

template <Access access>
inline void check(const void* pointer, size_t size, const void* return_address) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (address - e.stack < e.stack_size) return;
  const uint32_t site = uint32_t(reinterpret_cast<uintptr_t>(return_address) - e.image_begin);
  if (address - e.shared < e.shared_size || address - e.statics < e.statics_size) {
    check_shared<access>(address, size, site);
  } else {
    check_global<access>(address, size, site);
  }
}

// Scheduling ---------------------------------------------------------------------------------------------------------

void yield() { simt_switch(&e.fiber->stack_pointer, e.scheduler); }

void wait(const char* what, Site site) {
  e.fiber->state = Fiber::waits;
  e.fiber->waits_in = what;
  e.fiber->waits_at = site;
  yield();
}

void wake(Fiber& fiber) {
  fiber.state = Fiber::running;
  if (&fiber != e.fiber) e.ready.push_back(&fiber);
}

void leave() {
  Fiber& self = *e.fiber;
  if (*reinterpret_cast<uint64_t*>(self.stack) != canary) {
    fail("stack overflow", thread_name(self.id), format("more than %zu bytes of local variables", stack_bytes));
  }
  self.state = Fiber::exited;
  ++e.cluster_barrier.exited;
  if (++e.block->barrier.exited == e.threads && e.block->visited) {
    complain("cluster access after exit", place(e.block->visit_site),
             thread_name(e.block->visitor) + " touches the shared memory of " + block_name(e.block->number) +
                 ", which exits with no cluster.sync() in between");
  }
}

void fiber_main() {
  e.launch.thread(e.launch.call);
  leave();
  for (;;) yield();
}

void resume(Fiber& fiber) {
  if (fiber.block != e.block) {
    if (e.statics_size) {
      char* statics = reinterpret_cast<char*>(e.statics);
      if (e.block) memcpy(e.block->statics, statics, e.statics_size);
      memcpy(statics, fiber.block->statics, e.statics_size);
    }
    e.block = fiber.block;
    simt_block_index = e.block->index;
  }
  simt_thread_index = fiber.index;
  e.fiber = &fiber;
  e.stack = reinterpret_cast<uintptr_t>(fiber.stack);
  e.stack_size = stack_bytes;
  simt_switch(&e.scheduler, fiber.stack_pointer);
  e.stack = 0;
  e.stack_size = ~size_t(0);
  e.fiber = nullptr;
}

// The block-wide and the cluster-wide barrier are one thing with different members. Returns whether the caller was the
// last to arrive.
bool arrive(Barrier& barrier, unsigned members, const char* what, Site site) {
  Fiber& self = *e.fiber;
  self.waits_in = what;
  self.waits_at = site;
  if (!barrier.arrived) {
    barrier.first = &self;
  } else if (!(barrier.first->waits_at == site)) {
    fail("divergent barrier", place(site),
         thread_name(self.id) + " waits in " + what + " here, " + thread_name(barrier.first->id) + " in the one at " +
             place(barrier.first->waits_at));
  }
  if (++barrier.arrived < members) return false;
  barrier.arrived = 0;
  return true;
}

// One arrival of a warp's lanes. Returns its values once every lane of the mask is there, through `complete`.
template <typename Complete>
uint64_t gather(const char* what, unsigned mask, uint64_t value, Gathering::Request request, Site site,
                Complete complete) {
  Fiber& self = *e.fiber;
  Warp& warp = *self.warp;
  const std::string mask_text = format("mask 0x%08x", mask);
  if (!(mask >> self.lane & 1)) {
    fail("wrong warp mask", place(site),
         thread_name(self.id) + format(", lane %u, calls ", self.lane) + what + " with " + mask_text +
             ", which leaves it out");
  }
  const unsigned exists = warp.lanes == 32 ? ~0u : (1u << warp.lanes) - 1;
  if (mask & ~exists) {
    fail("wrong warp mask", place(site),
         thread_name(self.id) + " calls " + what + " with " + mask_text +
             format(", but its warp has %u lanes", warp.lanes));
  }
  // Lanes of one mask may still be on their way through a branch with a smaller one. What never meets is a deadlock.
  size_t i = 0;
  while (i < warp.gatherings.size() &&
         !(warp.gatherings[i].mask == mask && warp.gatherings[i].what == what && warp.gatherings[i].site == site)) {
    ++i;
  }
  if (i == warp.gatherings.size()) warp.gatherings.push_back({what, site, mask, 0, {}, {}});
  Gathering& gathering = warp.gatherings[i];
  gathering.arrived |= 1u << self.lane;
  gathering.values[self.lane] = value;
  gathering.requests[self.lane] = request;
  if (gathering.arrived != mask) {
    wait(what, site);
    return self.result;
  }
  const Gathering full = gathering;
  warp.gatherings.erase(warp.gatherings.begin() + i);
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    Fiber& member = *warp.fibers[lane];
    member.result = complete(full, lane);
    wake(member);
  }
  return self.result;
}

[[gnu::noinline]] void report_deadlock() {
  // Threads that wait for a warp explain barriers that wait for them, hence first.
  for (auto& block : e.cluster) {
    for (auto& fiber : block->fibers) {
      if (fiber.state != Fiber::waits) continue;
      for (const auto& gathering : fiber.warp->gatherings) {
        if (!(gathering.arrived >> fiber.lane & 1)) continue;
        const unsigned lane = std::countr_zero(gathering.mask & ~gathering.arrived);
        const Fiber& missing = *fiber.warp->fibers[lane];
        complain("wrong warp mask", place(gathering.site),
                 thread_name(fiber.id) + " waits in " + gathering.what +
                     format(" (mask 0x%08x) for lane %u, which ", gathering.mask, lane) +
                     (missing.state == Fiber::exited
                          ? "has exited"
                          : "waits in " + std::string(missing.waits_in) + " at " + place(missing.waits_at)));
        break;
      }
    }
  }
  if (!e.complaints.empty() && e.complaints.back().text.compare(0, 10, "wrong warp") == 0) return;
  std::map<std::string, unsigned> groups;
  const Fiber* waiting = nullptr;
  for (auto& block : e.cluster) {
    for (auto& fiber : block->fibers) {
      if (fiber.state == Fiber::waits) waiting = &fiber;
      ++groups[fiber.state == Fiber::exited
                   ? "have exited"
                   : "wait in " + std::string(fiber.waits_in) + " at " + place(fiber.waits_at)];
    }
  }
  std::string text = thread_name(waiting->id) + " waits in " + waiting->waits_in +
                     ", which not every thread reaches: of " +
                     format("%u threads", e.threads * unsigned(e.cluster.size()));
  const char* separator = ", ";
  for (const auto& [group, count] : groups) {
    text += separator + format("%u ", count) + group;
    separator = " and ";
  }
  complain("divergent barrier", place(waiting->waits_at), text);
}

void start(Block& block, unsigned number, size_t first_stack) {
  const dim3 grid = e.launch.grid, size = e.launch.block;
  block.number = number;
  block.index = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
  block.epoch = block.first_epoch = ++e.epoch;
  block.barrier = {};
  block.visited = false;
  memset(block.statics, 0xff, e.statics_size);
  memset(block.dynamic, 0xff, e.launch.shared_bytes);
  for (auto& warp : block.warps) {
    warp.gatherings.clear();
    warp.clock = 1;
    memset(warp.seen, 0, sizeof warp.seen);
  }
  for (unsigned i = 0; i < e.threads; ++i) {
    Fiber& fiber = block.fibers[i];
    fiber.block = &block;
    fiber.warp = &block.warps[i / 32];
    fiber.lane = i % 32;
    fiber.warp->fibers[fiber.lane] = &fiber;
    fiber.index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    fiber.id = number * max_threads + i;
    fiber.clock = 1;
    fiber.state = Fiber::running;
    fiber.fenced = false;
    fiber.stack = e.stacks + (first_stack + i) * stack_stride;
    *reinterpret_cast<uint64_t*>(fiber.stack) = canary;
    void** frame = reinterpret_cast<void**>(fiber.stack + stack_bytes) - frame_words;
    memset(frame, 0, frame_words * sizeof *frame);
    frame[return_word] = reinterpret_cast<void*>(fiber_main);
    fiber.stack_pointer = frame;
    e.ready.push_back(&fiber);
  }
}

// This shared object in memory: its image and its thread-local segment.
int find_image(dl_phdr_info* info, size_t, void*) {
  uintptr_t begin = ~uintptr_t(0), end = 0;
  size_t statics = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    if (header.p_type == PT_LOAD) {
      begin = std::min<uintptr_t>(begin, info->dlpi_addr + header.p_vaddr);
      end = std::max<uintptr_t>(end, info->dlpi_addr + header.p_vaddr + header.p_memsz);
    }
    if (header.p_type == PT_TLS) statics = header.p_memsz;
  }
  const uintptr_t self = reinterpret_cast<uintptr_t>(&e);
  if (self < begin || self >= end) return 0;
  e.image_begin = begin;
  e.image_end = end;
  e.statics = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
  e.statics_size = statics;
  return 1;
}

char* map(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw Error("the emulator found no memory");
  return static_cast<char*>(memory);
}

void prepare() {
  *const_cast<volatile char*>(&anchor) = 0;
  dl_iterate_phdr(find_image, nullptr);
  const size_t stride = (e.statics_size + max_shared_bytes + (16 << 10)) / 4096 * 4096;
  if (!e.shared) {
    e.shared = reinterpret_cast<uintptr_t>(map(stride * max_cluster));
    e.shared_size = stride * max_cluster;
  }
  const size_t stacks = e.threads * e.launch.cluster * stack_stride;
  if (stacks > e.stacks_size) {
    if (e.stacks) munmap(e.stacks, e.stacks_size);
    e.stacks = map(stacks);
    e.stacks_size = stacks;
  }
  e.cluster.clear();
  for (unsigned rank = 0; rank < e.launch.cluster; ++rank) {
    auto block = std::make_unique<Block>();
    block->rank = rank;
    block->warps.resize((e.threads + 31) / 32);
    for (auto& warp : block->warps) warp.lanes = std::min(32u, e.threads - 32 * unsigned(&warp - block->warps.data()));
    block->fibers.resize(e.threads);
    block->statics = reinterpret_cast<char*>(e.shared) + rank * stride;
    block->dynamic = block->statics + (e.statics_size + 4096 + 127) / 128 * 128;
    block->static_cells.resize(e.statics_size / 4 + 1);
    block->dynamic_cells.resize(e.launch.shared_bytes / 4 + 1);
    e.cluster.push_back(std::move(block));
  }
}

void run_cluster(unsigned number) {
  e.block = nullptr;
  e.cluster_epoch = 0;
  e.cluster_barrier = {};
  e.ready.clear();
  for (unsigned rank = 0; rank < e.launch.cluster; ++rank) {
    start(*e.cluster[rank], number * e.launch.cluster + rank, size_t(rank) * e.threads);
  }
  while (!e.ready.empty() && !e.aborted) {
    std::swap(e.ready[e.random() % e.ready.size()], e.ready.back());
    Fiber* fiber = e.ready.back();
    e.ready.pop_back();
    resume(*fiber);
  }
  if (!e.aborted && e.cluster_barrier.exited != e.threads * e.launch.cluster) {
    report_deadlock();
    e.aborted = true;
  }
}

}  // namespace

// What tests call ----------------------------------------------------------------------------------------------------

void seed(uint64_t value) {
  e.seed = value;
  e.random.seed(value);
}

void lend(const char* name, const void* data, size_t bytes, size_t element, Memory kind) {
  if (!bytes) return;
  auto lent = std::make_unique<Lent>();
  lent->name = name;
  lent->begin = reinterpret_cast<uintptr_t>(data);
  lent->end = lent->begin + bytes;
  lent->element = element;
  lent->kind = kind;
  lent->granule = element < 4 ? unsigned(element) : 4;
  const auto next = e.lent.upper_bound(lent->begin);
  if (next != e.lent.end() && next->second->begin < lent->end) {
    throw Error("'" + lent->name + "' overlaps '" + next->second->name + "', which is lent already");
  }
  if (kind != Memory::input) {
    lent->cells.resize((bytes + lent->granule - 1) / lent->granule);
    if (kind == Memory::inout) {
      for (auto& cell : lent->cells) cell.write_epoch = 1, cell.bytes = cell.last = 15;
    } else {
      memset(const_cast<void*>(data), 0xff, bytes);
    }
  }
  const uintptr_t end = lent->end;
  e.lent[end] = std::move(lent);
}

void release(const void* data) {
  e.last_lent = nullptr;
  const auto found = e.lent.upper_bound(reinterpret_cast<uintptr_t>(data));
  if (found != e.lent.end() && found->second->begin == reinterpret_cast<uintptr_t>(data)) e.lent.erase(found);
}

void finish() {
  for (const auto& [end, lent] : e.lent) {
    if (lent->kind != Memory::output) continue;
    size_t missing = 0, first = 0;
    for (size_t i = lent->cells.size(); i-- > 0;) {
      if (!lent->cells[i].write_epoch) ++missing, first = i;
    }
    if (missing) {
      complain("unwritten output", "'" + lent->name + "'",
               format("%zu of %zu words were never written, the first of them in element %zu", missing,
                      lent->cells.size(), first * lent->granule / lent->element));
    }
  }
  forget();
  if (!e.complaints.empty()) throw_complaints("after the last kernel:");
}

void forget() {
  e.lent.clear();
  e.last_lent = nullptr;
}

void run(const Launch& launch) {
  e.launch = launch;
  const dim3 grid = launch.grid, block = launch.block;
  const uint64_t threads = uint64_t(block.x) * block.y * block.z, blocks = uint64_t(grid.x) * grid.y * grid.z;
  const std::string name =
      kernel_name(launch.kernel) +
      format(" on grid (%u,%u,%u), block (%u,%u,%u), %zu bytes of shared memory, clusters of %u, seed %llu:", grid.x,
             grid.y, grid.z, block.x, block.y, block.z, launch.shared_bytes, launch.cluster,
             static_cast<unsigned long long>(e.seed));
  if (!threads || threads > max_threads) throw Error(name + "\n  a block has 1 to 1024 threads");
  if (!blocks || blocks >= (uint64_t(1) << 32) / max_threads || grid.y > 65535 || grid.z > 65535) {
    throw Error(name +
                "\n  a grid has at least one block, at most 65535 along y and z, and here no more than 2^22 in all");
  }
  if (!launch.cluster || launch.cluster > max_cluster || grid.x % launch.cluster) {
    throw Error(name + "\n  a cluster has 1 to 8 blocks and divides the grid along x");
  }
  if (launch.shared_bytes > max_shared_bytes) throw Error(name + "\n  a block has at most 227 KiB of shared memory");
  simt_grid_size = grid;
  simt_block_size = block;
  e.threads = unsigned(threads);
  e.aborted = false;
  e.launch_epoch = ++e.epoch;
  e.releases.assign(blocks, {});
  e.acquired.assign(blocks, 0);
  prepare();
  std::vector<unsigned> order(blocks / launch.cluster);
  for (size_t i = 0; i < order.size(); ++i) order[i] = unsigned(i);
  std::shuffle(order.begin(), order.end(), e.random);
  for (unsigned number : order) {
    run_cluster(number);
    if (e.aborted) break;
  }
  e.block = nullptr;
  if (!e.complaints.empty()) throw_complaints(name);
}

// What kernels call --------------------------------------------------------------------------------------------------

void* dynamic_shared() { return e.block->dynamic; }

int block_barrier(Reduction reduction, int predicate, const char* file, int line) {
  Block& block = *e.block;
  Fiber& self = *e.fiber;
  block.barrier.sum += predicate != 0;
  if (!arrive(block.barrier, e.threads, "__syncthreads", {file, line})) {
    wait("__syncthreads", {file, line});
    return int(self.result);
  }
  const int sum = std::exchange(block.barrier.sum, 0);
  const bool all = sum == int(e.threads);
  const int result = reduction == Reduction::any ? sum > 0 : reduction == Reduction::all ? all : sum;
  block.epoch = ++e.epoch;
  for (auto& fiber : block.fibers) {
    fiber.result = uint64_t(result);
    wake(fiber);
  }
  return result;
}

void cluster_barrier(const char* file, int line) {
  if (!arrive(e.cluster_barrier, e.threads * e.launch.cluster, "cluster.sync()", {file, line})) {
    wait("cluster.sync()", {file, line});
    return;
  }
  e.cluster_epoch = ++e.epoch;
  for (auto& block : e.cluster) {
    block->epoch = ++e.epoch;
    block->visited = false;
    for (auto& fiber : block->fibers) wake(fiber);
  }
}

unsigned cluster_rank() { return e.block->rank; }
unsigned cluster_size() { return e.launch.cluster; }

void* map_shared(const void* address, unsigned rank, const char* file, int line) {
  const Site site{file, line};
  if (rank >= e.launch.cluster) {
    fail("cluster rank out of bounds", place(site),
         thread_name(e.fiber->id) + format(" asks for block %u of %u", rank, e.launch.cluster));
  }
  const uintptr_t a = reinterpret_cast<uintptr_t>(address);
  if (rank == e.block->rank) return const_cast<void*>(address);
  if (a - e.statics < e.statics_size) return e.cluster[rank]->statics + (a - e.statics);
  const uintptr_t offset = a - reinterpret_cast<uintptr_t>(e.block->dynamic);
  if (offset > e.launch.shared_bytes) {
    fail("access out of bounds", place(site),
         thread_name(e.fiber->id) + " maps an address that is not in its shared memory");
  }
  return e.cluster[rank]->dynamic + offset;
}

void warp_barrier(unsigned mask, const char* file, int line) {
  Warp& warp = *e.fiber->warp;
  uint32_t latest[32];
  gather("__syncwarp", mask, 0, {}, {file, line}, [&](const Gathering& full, unsigned lane) -> uint64_t {
    if (lane == unsigned(std::countr_zero(full.mask))) {  // the first of the members
      ++warp.clock;
      for (unsigned j = 0; j < 32; ++j) {
        latest[j] = full.mask >> j & 1 ? warp.clock : 0;
        for (unsigned i = 0; i < 32; ++i) {
          if (full.mask >> i & 1) latest[j] = std::max(latest[j], warp.seen[i][j]);
        }
      }
    }
    memcpy(warp.seen[lane], latest, sizeof latest);
    warp.fibers[lane]->clock = warp.clock;
    return 0;
  });
}

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int argument, int width, const char* file, int line) {
  const Site site{file, line};
  if (width < 1 || width > 32 || (width & (width - 1))) {
    fail("wrong shuffle width", place(site), format("%d is not a power of two up to 32", width));
  }
  static const char* const names[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync"};
  return gather(
      names[int(kind)], mask, value, {kind, argument, width}, site, [&](const Gathering& full, unsigned lane) {
        const auto& request = full.requests[lane];
        const int self = int(lane), first = self & -request.width, last = first + request.width - 1;
        int source = self;
        switch (request.kind) {
          case Shuffle::index:
            source = first | (request.argument & (request.width - 1));
            break;
          case Shuffle::up:
            source = self - request.argument < first ? self : self - request.argument;
            break;
          case Shuffle::down:
            source = self + request.argument > last ? self : self + request.argument;
            break;
          case Shuffle::exclusive_or:
            source = (self ^ request.argument) > last ? self : self ^ request.argument;
            break;
        }
        if (!(full.mask >> source & 1)) {
          complain(
              "wrong warp mask", place(site),
              format("lane %u reads lane %d in %s, which mask 0x%08x leaves out", lane, source, full.what, full.mask));
        }
        return full.values[source];
      });
}

unsigned ballot(unsigned mask, int predicate, const char* file, int line) {
  return unsigned(gather("a vote", mask, predicate != 0, {}, {file, line}, [](const Gathering& full, unsigned) {
    uint64_t bits = 0;
    for (unsigned i = 0; i < 32; ++i) bits |= uint64_t(full.mask >> i & full.values[i] & 1) << i;
    return bits;
  }));
}

void fence() { e.fiber->fenced = true; }

void before_atomic(const void* address, size_t bytes, const void* return_address) {
  check<Access::atomic>(address, bytes, return_address);
  const uint32_t number = e.block->number;
  ++e.stamp;
  if (e.fiber->fenced) e.releases[number] = {e.block->epoch, e.fiber->id, e.stamp};
  e.acquired[number] = e.stamp;
  e.fiber->fenced = false;
}

uint16_t half_bits(float value) {
  const uint32_t x = std::bit_cast<uint32_t>(value), sign = x >> 16 & 0x8000;
  const float magnitude = std::bit_cast<float>(x & 0x7fffffff);
  if (magnitude != magnitude) return 0x7fff;
  if (magnitude >= 65520) return uint16_t(sign | 0x7c00);
  if (magnitude < 0x1p-14f) return uint16_t(sign | uint32_t(nearbyintf(magnitude * 0x1p24f)));
  const uint32_t y = x & 0x7fffffff;
  return uint16_t(sign | ((y + 0xfff + (y >> 13 & 1) - (112 << 23)) >> 13));
}

float half_value(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13);
  const float magnitude =
      exponent ? std::bit_cast<float>((exponent + 112) << 23 | fraction << 13) : float(fraction) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

}  // namespace simt

// What the compiler calls --------------------------------------------------------------------------------------------

using simt::Access;
using simt::check;

#define SIMT_CALLBACK extern "C" __attribute__((visibility("hidden"))) void
#define SIMT_SIZE(size)                                                                                             \
  SIMT_CALLBACK __tsan_read##size(void* p) { check<Access::read>(p, size, __builtin_return_address(0)); }           \
  SIMT_CALLBACK __tsan_write##size(void* p) { check<Access::write>(p, size, __builtin_return_address(0)); }         \
  SIMT_CALLBACK __tsan_unaligned_read##size(void* p) { check<Access::read>(p, size, __builtin_return_address(0)); } \
  SIMT_CALLBACK __tsan_unaligned_write##size(void* p) { check<Access::write>(p, size, __builtin_return_address(0)); }
SIMT_SIZE(1)
SIMT_SIZE(2)
SIMT_SIZE(4)
SIMT_SIZE(8)
SIMT_SIZE(16)
SIMT_CALLBACK __tsan_read_range(void* p, size_t size) { check<Access::read>(p, size, __builtin_return_address(0)); }
SIMT_CALLBACK __tsan_write_range(void* p, size_t size) { check<Access::write>(p, size, __builtin_return_address(0)); }
SIMT_CALLBACK __tsan_vptr_update(void*, void*) {}
SIMT_CALLBACK __tsan_vptr_read(void*) {}
SIMT_CALLBACK __tsan_func_entry(void*) {}
SIMT_CALLBACK __tsan_func_exit(void*) {}
SIMT_CALLBACK __tsan_init() {}
// Guards of function-local statics.
extern "C" __attribute__((visibility("hidden"))) char __tsan_atomic8_load(const volatile char* p, int) { return *p; }

// -fsanitize=alignment,bounds. The layout of what they are given is that of libubsan.
namespace {
struct UbsanLocation {
  const char* file;
  uint32_t line, column;
};
struct UbsanType {
  uint16_t kind, info;
  char name[1];
};
struct UbsanMismatch {
  UbsanLocation location;
  const UbsanType* type;
  unsigned char log_alignment, kind;
};
struct UbsanBounds {
  UbsanLocation location;
  const UbsanType *array, *index;
};
}  // namespace

SIMT_CALLBACK __ubsan_handle_type_mismatch_v1(UbsanMismatch* data, uintptr_t address) {
  if (!simt::e.fiber) return;
  simt::complain("misaligned access", simt::place(simt::Site{data->location.file, int(data->location.line)}),
                 simt::thread_name(simt::e.fiber->id) +
                     simt::format(" touches %s at an address that is %zu past a multiple of %d bytes", data->type->name,
                                  size_t(address % (1u << data->log_alignment)), 1 << data->log_alignment));
}
SIMT_CALLBACK __ubsan_handle_out_of_bounds(UbsanBounds* data, uintptr_t index) {
  if (!simt::e.fiber) return;
  simt::fail("access out of bounds", simt::place(simt::Site{data->location.file, int(data->location.line)}),
             simt::thread_name(simt::e.fiber->id) + simt::format(" takes element %lld of an array of type %s",
                                                                 static_cast<long long>(index), data->array->name));
}
