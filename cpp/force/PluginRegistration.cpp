#include "CGForce.h"
#include "CGForceProxy.h"
#include "openmm/serialization/SerializationProxy.h"

/**
 * Runs when the library is loaded. Only the XML proxy has to be known to OpenMM: the force itself needs no kernels of
 * its own on any platform.
 */
static const bool registered = [] {
    OpenMM::SerializationProxy::registerProxy(typeid(OpenMMCG::CGForce), new OpenMMCG::CGForceProxy());
    return true;
}();
