#pragma once

/** Marks the classes that other libraries use. */
#define OPENMMCG_EXPORT __attribute__((visibility("default")))
