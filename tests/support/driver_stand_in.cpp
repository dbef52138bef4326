// A libcuda.so.1 of two devices that computes nothing: what a program asks of the driver is checked and handed on.
//
// Functions that are not here answer CUDA_ERROR_NOT_SUPPORTED and say their name on standard error. Handles and
// structures are those of CUDA's driver API, version 13.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

using Status = int;
using Handle = void*;
constexpr Status SUCCESS = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
                 NOT_FOUND = 500, NOT_SUPPORTED = 801;
constexpr int DEVICES = 2, DRIVER_VERSION = 13000;
constexpr int MOST_THREADS = 1, MOST_THREADS_X = 2, WARP_SIZE = 10, MAJOR = 75, MINOR = 76;  // CUdevice_attribute

// CUlaunchConfig
struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  Handle stream;
  Handle attributes;
  unsigned attribute_count;
};

// What Python is told of a launch: entry, grid, block, stream, device whose context is current, parameters.
using OnLaunch = void (*)(const char*, const unsigned*, const unsigned*, Handle, int, void**);

static char contexts[DEVICES];
static thread_local std::vector<Handle> current;  // the thread's stack of contexts
static OnLaunch on_launch;
static std::deque<std::string> entries;  // names; a handle of a kernel points to one

static Handle context() { return current.empty() ? nullptr : current.back(); }
static int device_of(Handle context) { return int(static_cast<char*>(context) - contexts); }

extern "C" void stand_in_on_launch(OnLaunch callback) { on_launch = callback; }
extern "C" int stand_in_current_device() { return context() ? device_of(context()) : -1; }

// As cudaSetDevice does, which torch calls.
extern "C" void stand_in_set_device(int device) { current.assign(1, &contexts[device]); }

static Status cuInit(unsigned) { return SUCCESS; }
static Status cuDriverGetVersion(int* version) { return *version = DRIVER_VERSION, SUCCESS; }
static Status cuDeviceGetCount(int* count) { return *count = DEVICES, SUCCESS; }
static Status cuDeviceGet(int* device, int number) {
  if (number < 0 || number >= DEVICES) return INVALID_DEVICE;
  return *device = number, SUCCESS;
}
static Status cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == MAJOR                                                ? 9
           : attribute == MINOR                                              ? 0
           : attribute == WARP_SIZE                                          ? 32
           : attribute == MOST_THREADS || attribute == MOST_THREADS_X        ? 1024
                                                                             : 1;
  return SUCCESS;
}
static Status cuDevicePrimaryCtxRetain(Handle* result, int device) { return *result = &contexts[device], SUCCESS; }
static Status cuDevicePrimaryCtxRelease(int) { return SUCCESS; }
static Status cuCtxSetCurrent(Handle next) {
  if (!current.empty()) current.pop_back();
  if (next) current.push_back(next);
  return SUCCESS;
}
static Status cuCtxGetCurrent(Handle* result) { return *result = context(), SUCCESS; }
static Status cuCtxPushCurrent(Handle next) { return current.push_back(next), SUCCESS; }
static Status cuCtxPopCurrent(Handle* result) {
  if (current.empty()) return INVALID_CONTEXT;
  if (result) *result = context();
  return current.pop_back(), SUCCESS;
}
static Status cuCtxGetDevice(int* device) {
  if (!context()) return INVALID_CONTEXT;
  return *device = device_of(context()), SUCCESS;
}
static Status cuStreamGetCtx(Handle, Handle* result) { return *result = context(), SUCCESS; }
static Status cuLibraryLoadData(Handle* result, const void* image, Handle, Handle, unsigned, Handle, Handle, unsigned) {
  if (memcmp(image, "\x7f" "ELF", 4)) return INVALID_IMAGE;
  static char library;
  return *result = &library, SUCCESS;
}
static Status cuLibraryUnload(Handle) { return SUCCESS; }
static Status cuLibraryGetKernel(Handle* result, Handle, const char* name) {
  if (strncmp(name, "deform_attn_", 12)) return NOT_FOUND;
  entries.push_back(name);
  return *result = &entries.back(), SUCCESS;
}
static Status cuKernelGetAttribute(int* value, int, Handle, int) { return *value = 0, SUCCESS; }
static Status cuLaunchKernelEx(const LaunchConfig* config, Handle kernel, void** parameters, void** extra) {
  if (!context()) return INVALID_CONTEXT;
  if (extra || config->shared_bytes || config->attribute_count) return INVALID_VALUE;
  const char* name = static_cast<std::string*>(kernel)->c_str();
  if (on_launch) on_launch(name, config->grid, config->block, config->stream, device_of(context()), parameters);
  return SUCCESS;
}
static Status cuGetErrorName(int, const char** name) { return *name = "CUDA_ERROR_OF_THE_STAND_IN", SUCCESS; }
static Status cuGetErrorString(int, const char** text) { return *text = "the stand-in driver refused", SUCCESS; }

// A function of its own for each symbol that is not here, so that it can say which one it stands for.
constexpr int MOST_UNKNOWN = 1200;
static std::vector<std::string> unknown;

template <int INDEX>
static Status unsupported() {
  fprintf(stderr, "the stand-in driver has no %s\n", unknown[INDEX].c_str());
  return NOT_SUPPORTED;
}

template <int... INDEX>
static Handle unsupported_number(int wanted, std::integer_sequence<int, INDEX...>) {
  static const Handle functions[] = {reinterpret_cast<Handle>(&unsupported<INDEX>)...};
  return functions[wanted];
}

extern "C" Status cuGetProcAddress_v2(const char* symbol, Handle* function, int, uint64_t, int* status);

#define KNOWN(function) {#function, reinterpret_cast<Handle>(&function)}
extern "C" Status cuGetProcAddress_v2(const char* symbol, Handle* function, int, uint64_t, int* status) {
  static std::map<std::string, Handle> functions{
      KNOWN(cuInit), KNOWN(cuDriverGetVersion), KNOWN(cuDeviceGetCount), KNOWN(cuDeviceGet),
      KNOWN(cuDeviceGetAttribute), KNOWN(cuDevicePrimaryCtxRetain), KNOWN(cuDevicePrimaryCtxRelease),
      KNOWN(cuCtxSetCurrent), KNOWN(cuCtxGetCurrent), KNOWN(cuCtxPushCurrent), KNOWN(cuCtxPopCurrent),
      KNOWN(cuCtxGetDevice), KNOWN(cuStreamGetCtx), KNOWN(cuLibraryLoadData), KNOWN(cuLibraryUnload),
      KNOWN(cuLibraryGetKernel), KNOWN(cuKernelGetAttribute), KNOWN(cuLaunchKernelEx), KNOWN(cuGetErrorName),
      KNOWN(cuGetErrorString), {"cuGetProcAddress", reinterpret_cast<Handle>(&cuGetProcAddress_v2)}};
  if (!functions.count(symbol)) {
    functions[symbol] = unsupported_number(int(unknown.size()), std::make_integer_sequence<int, MOST_UNKNOWN>{});
    unknown.push_back(symbol);
  }
  *function = functions[symbol];
  if (status) *status = 0;
  return SUCCESS;
}
extern "C" Status cuGetProcAddress(const char* symbol, Handle* function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}
