// Runs the operators of csrc/cpu for another process: reads calls from its input and answers them on its output, in the
// machine's own byte order. __init__.py has the other side.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <thread>

#include "torch.h"

namespace {

void read(void* to, size_t bytes) {
  if (std::fread(to, 1, bytes, stdin) != bytes) throw std::runtime_error("the call breaks off");
}
template <class T>
T read() {
  T value;
  read(&value, sizeof value);
  return value;
}
template <class T>
std::vector<T> read_list() {
  std::vector<T> values(read<int32_t>());
  read(values.data(), values.size() * sizeof(T));
  return values;
}
std::string read_string() {
  const std::vector<char> text = read_list<char>();
  return {text.begin(), text.end()};
}

void write(const void* from, size_t bytes) {
  if (std::fwrite(from, 1, bytes, stdout) != bytes) std::exit(1);
}
template <class T>
void write(T value) {
  write(&value, sizeof value);
}
template <class T>
void write_list(const T* values, size_t count) {
  write(static_cast<int32_t>(count));
  write(values, count * sizeof(T));
}

using Tensor = std::unique_ptr<AtenTensorOpaque>;

Tensor read_tensor() {
  const auto dtype = read<int32_t>();
  std::vector<int64_t> sizes = read_list<int64_t>(), strides = read_list<int64_t>();
  Tensor tensor = std::make_unique<AtenTensorOpaque>(std::move(sizes), std::move(strides), dtype);
  read(tensor->storage.get(), tensor->bytes());
  return tensor;
}
void write_tensor(const AtenTensorOpaque* tensor) {
  write(tensor ? tensor->dtype : -1);
  if (!tensor) return;
  write_list(tensor->sizes.data(), tensor->sizes.size());
  write_list(tensor->strides.data(), tensor->strides.size());
  write(tensor->storage.get(), tensor->bytes());
}

// An argument as an operator's stack takes it: a tensor, or the bits of a number.
struct Argument {
  Tensor tensor;
  StableIValue bits = 0;

  StableIValue on_stack() const {
    return tensor ? reinterpret_cast<StableIValue>(new AtenTensorOpaque(*tensor)) : bits;
  }
};

std::vector<Tensor> call(const standalone::Operator& op, const std::vector<Argument>& arguments) {
  std::vector<StableIValue> stack;
  for (const Argument& argument : arguments) stack.push_back(argument.on_stack());
  stack.resize(std::max(arguments.size(), op.optional.size()));
  op.boxed(stack.data(), arguments.size(), op.optional.size());
  std::vector<Tensor> results;
  for (size_t i = 0; i < op.optional.size(); ++i) {
    if (!op.optional[i]) {
      results.emplace_back(reinterpret_cast<AtenTensorHandle>(stack[i]));
    } else if (const std::unique_ptr<StableIValue> held(reinterpret_cast<StableIValue*>(stack[i])); held) {
      results.emplace_back(reinterpret_cast<AtenTensorHandle>(*held));
    } else {
      results.emplace_back();
    }
  }
  return results;
}

bool equal(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!a[i] != !b[i]) return false;
    if (a[i] && std::memcmp(a[i]->storage.get(), b[i]->storage.get(), a[i]->bytes()) != 0) return false;
  }
  return true;
}

// By `callers` threads at once.
std::vector<Tensor> call(const standalone::Operator& op, const std::vector<Argument>& arguments, int callers) {
  std::vector<std::vector<Tensor>> results(callers);
  std::vector<std::exception_ptr> errors(callers);
  const auto run = [&](int caller) {
    try {
      results[caller] = call(op, arguments);
    } catch (...) {
      errors[caller] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (int caller = 1; caller < callers; ++caller) threads.emplace_back(run, caller);
  run(0);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  for (const std::vector<Tensor>& other : results) {
    if (!equal(results[0], other)) throw std::runtime_error("two threads got different results of one call");
  }
  return std::move(results[0]);
}

std::vector<Tensor> answer() {
  standalone::set_num_threads(read<int32_t>());
  const auto callers = read<int32_t>();
  const std::string name = read_string();
  std::vector<Argument> arguments(read<int32_t>());
  for (Argument& argument : arguments) {
    if (read<char>() == 'T') {
      argument.tensor = read_tensor();
    } else {
      argument.bits = read<StableIValue>();
    }
  }
  const auto op = standalone::operators().find(name);
  if (op == standalone::operators().end()) throw std::runtime_error("no operator " + name);
  return call(op->second, arguments, callers);
}

}  // namespace

int main() {
  for (int next = std::getchar(); next != EOF; next = std::getchar()) {
    std::ungetc(next, stdin);
    try {
      const std::vector<Tensor> results = answer();
      write(static_cast<int32_t>(results.size()));
      for (const Tensor& result : results) write_tensor(result.get());
    } catch (const std::exception& error) {
      write(int32_t{-1});
      write_list(error.what(), std::strlen(error.what()));
    }
    std::fflush(stdout);
  }
}
