#include "CGForce.h"
#include "CGForceProxy.h"
#include "openmm/serialization/SerializationProxy.h"

/**
 * Runs when the library is loaded. Only the XML proxy has to be known to OpenMM: the platforms that have a kernel of
 * their own for the force learn of it from libraries beside this one.
 */
static const bool registered = [] {
    OpenMM::SerializationProxy::registerProxy(typeid(OpenMMCG::CGForce), new OpenMMCG::CGForceProxy());
    return true;
}();
