// A libnvrtc.so.13 that compiles nothing: its code is a few bytes that the fake driver takes for good. So the tests of
// programs need no CUDA; that the kernels compile is another test's matter.
#include <cstring>

#define API extern "C" __attribute__((visibility("default")))

static const char CODE[] = "\177ELF, made by the tests";

API int nvrtcVersion(int* major, int* minor)
{
    *major = 13;
    *minor = 0;
    return 0;
}
API int nvrtcGetNumSupportedArchs(int* count)
{
    *count = 1;
    return 0;
}
API int nvrtcGetSupportedArchs(int* list)
{
    *list = 90;
    return 0;
}
API int nvrtcCreateProgram(void** program, const char*, const char*, int, const char* const*, const char* const*)
{
    *program = (void*)CODE;
    return 0;
}
API int nvrtcDestroyProgram(void**) { return 0; }
API int nvrtcCompileProgram(void*, int, const char* const*) { return 0; }
API int nvrtcGetProgramLogSize(void*, size_t* size)
{
    *size = 1;
    return 0;
}
API int nvrtcGetProgramLog(void*, char* log)
{
    *log = 0;
    return 0;
}
API int nvrtcGetCUBINSize(void*, size_t* size)
{
    *size = sizeof CODE;
    return 0;
}
API int nvrtcGetCUBIN(void*, char* code)
{
    memcpy(code, CODE, sizeof CODE);
    return 0;
}
API int nvrtcGetPTXSize(void* program, size_t* size) { return nvrtcGetCUBINSize(program, size); }
API int nvrtcGetPTX(void* program, char* code) { return nvrtcGetCUBIN(program, code); }
