#include "../bonded/TabulatedBondedForce.h"
#include "../bonded/TabulatedBondedForceProxy.h"
#include "CGForce.h"
#include "CGForceProxy.h"
#include "openmm/serialization/SerializationProxy.h"

/**
 * Runs when the library is loaded. Only the XML proxies have to be known to OpenMM: the platforms that have a kernel of
 * their own for a CGForce learn of it from libraries beside this one.
 */
static const bool registered = [] {
    OpenMM::SerializationProxy::registerProxy(typeid(OpenMMCG::CGForce), new OpenMMCG::CGForceProxy());
    OpenMM::SerializationProxy::registerProxy(typeid(OpenMMCG::TabulatedBondedForce),
                                              new OpenMMCG::TabulatedBondedForceProxy());
    return true;
}();
