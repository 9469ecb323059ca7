# One static library a room. The room's name is its folder below lib/ with the
# slashes dropped (lib/Codegen/Host -> MoecCodegenHost); sources are every .cpp
# in that folder. USES names the rooms it may know, LIBS everything else.
function(moec_add_room name)
  cmake_parse_arguments(ARG "" "" "USES;LIBS;DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  if(NOT sources)
    file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp "// no sources yet\n")
    set(sources ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp)
  endif()
  add_library(Moec${name} STATIC ${sources})
  foreach(room IN LISTS ARG_USES)
    target_link_libraries(Moec${name} PUBLIC Moec${room})
  endforeach()
  target_link_libraries(Moec${name} PUBLIC ${ARG_LIBS})
  target_include_directories(Moec${name} PUBLIC
    ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
  if(ARG_DEPENDS)
    add_dependencies(Moec${name} ${ARG_DEPENDS})
  endif()
endfunction()

# Rooms that speak MLIR share one precompiled header: it halves the build.
function(moec_use_mlir name)
  target_include_directories(Moec${name} SYSTEM PUBLIC ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
  target_link_libraries(Moec${name} PUBLIC MLIR LLVM)
  if(MOEC_PCH)
    if(TARGET MoecPch)
      target_precompile_headers(Moec${name} REUSE_FROM MoecPch)
    endif()
  endif()
endfunction()
