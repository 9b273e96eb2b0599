// SPDX-License-Identifier: MIT
// program.cpp - a C++ program for cases.sh: containers, exceptions, every operator new and delete, threads.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "hakmem/hakmem.h"
#include "hakmem/plugin.h"

namespace
{

struct alignas(256) Wide {
  unsigned char bytes[512];
};

std::atomic<int> handled;

void give_up()
{
  if (++handled == 3) {
    std::set_new_handler(nullptr);
  }
}

void containers()
{
  std::map<int, std::string> map;
  std::unordered_map<std::string, std::vector<int>> index;
  for (int i = 0; i < 100000; i++) {
    map[i * 7919 % 100003] = std::string(static_cast<size_t>(i % 200), static_cast<char>('a' + i % 26));
    index[std::to_string(i % 1000)].push_back(i);
  }
  size_t length = 0;
  for (const auto &entry : map) {
    length += entry.second.size();
  }
  std::vector<double> large(5000000);
  std::iota(large.begin(), large.end(), 0.0);
  large.resize(20000000);
  std::ostringstream stream;
  stream << map.size() << ' ' << length << ' ' << index["77"].size() << ' ' << large[4999999] << ' ' << large.back();
  std::printf("containers %s\n", stream.str().c_str());
  std::string text = stream.str(), other = std::regex_replace(text, std::regex("([0-9]+) ([0-9]+)"), "$2-$1");
  std::printf("regex %s\n", other.c_str());
}

void exceptions()
{
  int caught = 0;
  for (int i = 0; i < 2000; i++) {
    try {
      auto held = std::make_unique<std::vector<int>>(static_cast<size_t>(i), 1);
      if (i % 2 == 0) {
        throw std::runtime_error(std::string(100, 'x') + std::to_string(held->size()));
      }
    } catch (const std::exception &e) {
      caught += static_cast<int>(std::string(e.what()).size() > 100);
    }
  }
  volatile size_t huge = PTRDIFF_MAX - 100000;
  bool thrown = false;
  std::set_new_handler(give_up);
  try {
    std::unique_ptr<char[]> never(static_cast<char *>(::operator new[](huge)));
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  void *none = ::operator new(huge, std::nothrow);
  void *aligned = ::operator new(huge, std::align_val_t(64), std::nothrow);
  bool aligned_thrown = false;
  try {
    aligned = ::operator new(huge, std::align_val_t(4096));
  } catch (const std::bad_alloc &) {
    aligned_thrown = true;
  }
  std::printf("exceptions %d bad_alloc %d handler %d nothrow %d aligned %d %d\n", caught, thrown, handled.load(),
              none == nullptr, aligned == nullptr, aligned_thrown);
}

void operators()
{
  bool good = true;
  for (size_t size : {size_t(0), size_t(1), size_t(100), size_t(70000), size_t(3000000)}) {
    void *plain = ::operator new(size), *array = ::operator new[](size);
    void *quiet = ::operator new(size, std::nothrow), *quiet_array = ::operator new[](size, std::nothrow);
    good = good && plain && array && quiet && quiet_array && plain != array;
    ::operator delete(plain, size);
    ::operator delete[](array, size);
    ::operator delete(quiet, std::nothrow);
    ::operator delete[](quiet_array, std::nothrow);
    ::operator delete(::operator new(size));
    ::operator delete[](::operator new[](size));
    for (size_t align = 32; align <= 1 << 16; align *= 8) {
      std::align_val_t a{align};
      void *p = ::operator new(size, a), *q = ::operator new[](size, a), *r = ::operator new(size, a, std::nothrow),
           *s = ::operator new[](size, a, std::nothrow);
      for (void *block : {p, q, r, s}) {
        good = good && block != nullptr && reinterpret_cast<uintptr_t>(block) % align == 0;
      }
      ::operator delete(p, size, a);
      ::operator delete[](q, size, a);
      ::operator delete(r, a, std::nothrow);
      ::operator delete[](s, a, std::nothrow);
      ::operator delete(::operator new(size, a), a);
      ::operator delete[](::operator new[](size, a), a);
    }
  }
  auto wide = std::make_unique<Wide[]>(33);
  good = good && reinterpret_cast<uintptr_t>(wide.get()) % alignof(Wide) == 0;
  std::free(nullptr);
  ::operator delete(nullptr);
  std::printf("operators %s, ABI %d.%d\n", good ? "good" : "bad", HAK_ABI_MAJOR, HAK_ABI_MINOR);
}

void threads()
{
  std::vector<std::thread> all;
  std::vector<std::vector<std::string>> made(8);
  for (size_t t = 0; t < 8; t++) {
    all.emplace_back([&made, t] {
      thread_local std::set<int> own;
      for (int i = 0; i < 20000; i++) {
        own.insert(i * 31 % 5003);
        made[t].push_back(std::string(static_cast<size_t>(i % 300), 'y'));
      }
      made[t].push_back(std::to_string(own.size()));
    });
  }
  for (auto &thread : all) {
    thread.join();
  }
  size_t sum = 0;
  for (auto &strings : made) { // freed by another thread
    sum += strings.size() + std::stoul(strings.back());
    strings.clear();
  }
  std::printf("threads %zu\n", sum);
}

struct AtExit {
  std::string *text = new std::string(1000, 'z');
  ~AtExit()
  {
    std::string again = *text + *text;
    delete text;
    std::printf("destructor %zu\n", again.size());
  }
} at_exit;

} // namespace

int main()
{
  containers();
  exceptions();
  operators();
  threads();
  return 0;
}
