#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <sstream>

#include "../bonded/TabulatedBondedForce.h"
#include "../force/CGForce.h"
#include "../neighbors/NeighborList.h"
#include "../network/KernelSets.h"
#include "openmm/Context.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/XmlSerializer.h"

namespace py = pybind11;
using namespace OpenMMCG;

namespace {

using Array = py::array_t<double, py::array::c_style | py::array::forcecast>;

/** The object behind a SWIG proxy, given `int(proxy.this)`; null where it is of another class. */
template <class Class>
Class* findForce(uintptr_t address) {
    return dynamic_cast<Class*>(reinterpret_cast<OpenMM::Force*>(address));
}

CGForce& forceAt(uintptr_t address) {
    auto* force = findForce<CGForce>(address);
    if (force == nullptr)
        throw py::type_error("this Force is not a CGForce");
    return *force;
}

TabulatedBondedForce& tabulatedForceAt(uintptr_t address) {
    auto* force = findForce<TabulatedBondedForce>(address);
    if (force == nullptr)
        throw py::type_error("this Force is not a TabulatedBondedForce");
    return *force;
}

template <class Item>
const Item& itemAt(const std::vector<Item>& items, int index, const std::string& name) {
    if (index < 0 || index >= static_cast<int>(items.size()))
        throw py::index_error("there is no " + name + " " + std::to_string(index) + " among " +
                              std::to_string(items.size()));
    return items[index];
}

std::vector<char> toVector(const py::bytes& bytes) {
    const std::string_view view = bytes;
    return std::vector<char>(view.begin(), view.end());
}

std::string toXml(const OpenMM::Force& force) {
    std::ostringstream stream;
    OpenMM::XmlSerializer::serialize<OpenMM::Force>(&force, "Force", stream);
    return stream.str();
}

std::vector<OpenMM::Vec3> toVectors(const Array& array, const std::string& name) {
    if (array.ndim() != 2 || array.shape(1) != 3)
        throw py::value_error(name + " must have the shape [N, 3]");
    std::vector<OpenMM::Vec3> vectors(array.shape(0));
    for (size_t i = 0; i < vectors.size(); i++)
        vectors[i] = OpenMM::Vec3(array.at(i, 0), array.at(i, 1), array.at(i, 2));
    return vectors;
}

py::tuple neighborPairs(const Array& positions, const std::optional<Array>& box, double cutoff, int replicas) {
    if (!(cutoff > 0))
        throw py::value_error("the cutoff must be positive");
    const std::vector<OpenMM::Vec3> places = toVectors(positions, "positions");
    if (replicas < 1 || places.size() % replicas != 0)
        throw py::value_error("the " + std::to_string(places.size()) + " positions are not those of " +
                              std::to_string(replicas) + " replicas");
    std::vector<OpenMM::Vec3> vectors;
    if (box) {
        vectors = toVectors(*box, "box");
        if (vectors.size() != 3)
            throw py::value_error("box must have the shape [3, 3]");
        if (2 * cutoff > PeriodicBox(vectors.data()).getSmallestWidth())
            throw py::value_error("the cutoff of " + std::to_string(cutoff) +
                                  " nm is more than half the smallest width of the box");
    }
    std::vector<int64_t> rows, columns;
    if (!places.empty()) {
        Parallel parallel(1);
        NeighborList list(cutoff, 0, parallel, replicas);
        listPairs(list, places, box ? vectors.data() : nullptr, cutoff, rows, columns);
    }
    return py::make_tuple(py::array_t<int64_t>(rows.size(), rows.data()),
                          py::array_t<int64_t>(columns.size(), columns.data()));
}

void addTabulatedBondedForce(py::module_& module) {
    module.def("tabulated_xml", [](const std::string& kind) { return toXml(TabulatedBondedForce(kind)); });
    module.def("is_tabulated", [](uintptr_t address) { return findForce<TabulatedBondedForce>(address) != nullptr; });
    module.def("get_kind", [](uintptr_t force) { return tabulatedForceAt(force).getKind(); });
    module.def("get_particles_per_term",
               [](uintptr_t force) { return tabulatedForceAt(force).getNumParticlesPerTerm(); });
    module.def("add_table", [](uintptr_t force, double start, double stop, const std::vector<double>& energies) {
        return tabulatedForceAt(force).addTable(start, stop, energies);
    });
    module.def("set_table",
               [](uintptr_t force, int index, double start, double stop, const std::vector<double>& energies) {
                   tabulatedForceAt(force).setTableParameters(index, start, stop, energies);
               });
    module.def("count_tables", [](uintptr_t force) { return tabulatedForceAt(force).getTables().size(); });
    module.def("get_table", [](uintptr_t force, int index) {
        const auto& table = itemAt(tabulatedForceAt(force).getTables(), index, "table");
        return py::make_tuple(table.start, table.stop,
                              py::array_t<double>(table.energies.size(), table.energies.data()));
    });
    module.def("add_term", [](uintptr_t force, const std::vector<int>& particles, int table) {
        return tabulatedForceAt(force).addTerm(particles, table);
    });
    module.def("count_terms", [](uintptr_t force) { return tabulatedForceAt(force).getTerms().size(); });
    module.def("get_term", [](uintptr_t force, int index) {
        const auto& term = itemAt(tabulatedForceAt(force).getTerms(), index, "term");
        return py::make_tuple(term.particles, term.table);
    });
    module.def("set_tabulated_periodic", [](uintptr_t force, bool periodic) {
        tabulatedForceAt(force).setUsesPeriodicBoundaryConditions(periodic);
    });
}

}  // namespace

PYBIND11_MODULE(_openmmcg, module) {
    module.doc() = "The C++ side of openmmcg. Forces are given by the address of the C++ object, int(force.this).";
    py::register_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer)
                std::rethrow_exception(pointer);
        } catch (const OpenMM::OpenMMException& error) {
            py::set_error(py::module_::import("openmm").attr("OpenMMException"), error.what());
        }
    });
    module.def("force_xml_from_file", [](const std::string& path) { return toXml(CGForce(path)); });
    module.def("force_xml_from_bytes", [](const py::bytes& bytes) { return toXml(CGForce(toVector(bytes))); });
    module.def("is_cgforce", [](uintptr_t address) { return findForce<CGForce>(address) != nullptr; });
    module.def("get_model", [](uintptr_t force) {
        const auto& bytes = forceAt(force).getModel().getBytes();
        return py::bytes(bytes.data(), bytes.size());
    });
    module.def("set_model", [](uintptr_t force, const py::bytes& bytes) { forceAt(force).setModel(toVector(bytes)); });
    module.def("has_compiled_network", [](uintptr_t force) { return forceAt(force).getModel().hasCompiledNetwork(); });
    module.def("get_cutoff", [](uintptr_t force) { return forceAt(force).getModel().getDescription().cutoff; });
    module.def("get_bead_types", [](uintptr_t force) {
        std::vector<std::string> names;
        for (const auto& type : forceAt(force).getModel().getDescription().beadTypes) names.push_back(type.name);
        return names;
    });
    module.def("get_engine", [](uintptr_t force) { return forceAt(force).getEngine(); });
    module.def("set_engine", [](uintptr_t force, const std::string& engine) { forceAt(force).setEngine(engine); });
    module.def("get_particles", [](uintptr_t force) { return forceAt(force).getParticles(); });
    module.def("set_particles",
               [](uintptr_t force, const std::vector<int>& particles) { forceAt(force).setParticles(particles); });
    module.def("get_types", [](uintptr_t force) { return forceAt(force).getTypes(); });
    module.def("set_types", [](uintptr_t force, const std::vector<int>& types) { forceAt(force).setTypes(types); });
    module.def("get_replicas", [](uintptr_t force) { return forceAt(force).getReplicas(); });
    module.def("set_replicas", [](uintptr_t force, int replicas) { forceAt(force).setReplicas(replicas); });
    module.def("get_replica_energies", [](uintptr_t force, uintptr_t context) {
        const auto energies = forceAt(force).getReplicaEnergies(*reinterpret_cast<OpenMM::Context*>(context));
        return py::array_t<double>(energies.size(), energies.data());
    });
    module.def("profile", [](uintptr_t force, uintptr_t context, int repeats) {
        py::list result;
        for (const KernelTime& time : forceAt(force).profile(*reinterpret_cast<OpenMM::Context*>(context), repeats))
            result.append(
                py::make_tuple(time.name, time.seconds, time.work.operations, time.work.memory, time.work.cache));
        return result;
    });
    module.def("set_periodic",
               [](uintptr_t force, bool periodic) { forceAt(force).setUsesPeriodicBoundaryConditions(periodic); });
    module.def("get_global_parameters", [](uintptr_t force) {
        std::map<std::string, double> parameters;
        for (const auto& parameter : forceAt(force).getGlobalParameters())
            parameters[parameter.name] = parameter.defaultValue;
        return parameters;
    });
    module.def("set_global_parameter_default", [](uintptr_t force, const std::string& name, double value) {
        forceAt(force).setGlobalParameterDefault(name, value);
    });
    module.def("get_energy_parameter_derivatives",
               [](uintptr_t force) { return forceAt(force).getEnergyParameterDerivatives(); });
    module.def("add_energy_parameter_derivative",
               [](uintptr_t force, const std::string& name) { forceAt(force).addEnergyParameterDerivative(name); });
    module.def("update_parameters_in_context", [](uintptr_t force, uintptr_t context) {
        forceAt(force).updateParametersInContext(*reinterpret_cast<OpenMM::Context*>(context));
    });
    module.def("neighbor_pairs", &neighborPairs, py::arg("positions"), py::arg("box").none(true), py::arg("cutoff"),
               py::arg("replicas") = 1);
    module.def("get_kernel_set", &getKernelSet);
    module.def("get_kernel_sets", &getKernelSets);
    addTabulatedBondedForce(module);
}
