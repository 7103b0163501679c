# find_package(jempp) gives the target jempp::jempp. This file may lie in lib/cmake/jempp or share/jempp.
set(_jempp_prefixes "${CMAKE_CURRENT_LIST_DIR}/../../.." "${CMAKE_CURRENT_LIST_DIR}/../..")
find_path(JEMPP_INCLUDE_DIR jempp.h HINTS ${_jempp_prefixes} PATH_SUFFIXES include)
find_library(JEMPP_LIBRARY jempp HINTS ${_jempp_prefixes}
    PATH_SUFFIXES lib lib64 "lib/${CMAKE_LIBRARY_ARCHITECTURE}")
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(jempp REQUIRED_VARS JEMPP_LIBRARY JEMPP_INCLUDE_DIR)
if(jempp_FOUND AND NOT TARGET jempp::jempp)
    add_library(jempp::jempp UNKNOWN IMPORTED)
    set_target_properties(jempp::jempp PROPERTIES
        IMPORTED_LOCATION "${JEMPP_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${JEMPP_INCLUDE_DIR}")
endif()
unset(_jempp_prefixes)
