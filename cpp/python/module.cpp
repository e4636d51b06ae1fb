#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <sstream>

#include "../bonded/TabulatedBondedForce.h"
#include "../force/CGForce.h"
#include "../force/Plugin.h"
#include "../neighbors/NeighborList.h"
#include "../network/KernelSets.h"
#include "../pair/PairForce.h"
#include "openmm/Context.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/XmlSerializer.h"

namespace py = pybind11;
using namespace OpenMMCG;

namespace {

using Array = py::array_t<double, py::array::c_style | py::array::forcecast>;

/** The force of a class behind a number; Python's name of the class is that of its C++ class. */
template <class Class>
Class& forceOf(uint64_t number, const std::string& name) {
    OpenMM::Force* force = LivingForce::find(number);
    if (force == nullptr)
        throw OpenMM::OpenMMException(name +
                                      ": this force exists no more, because the System that it belonged to is gone; "
                                      "keep the System for as long as you use its forces, or use a copy.copy(force)");
    return dynamic_cast<Class&>(*force);
}

CGForce& cgForce(uint64_t number) {
    return forceOf<CGForce>(number, "CGForce");
}

TabulatedBondedForce& tabulated(uint64_t number) {
    return forceOf<TabulatedBondedForce>(number, "TabulatedBondedForce");
}

PairForce& pairForce(uint64_t number) {
    return forceOf<PairForce>(number, "PairForce");
}

/** Whether at an address, `int(force.this)`, is a force of a class. */
template <class Class>
bool isAt(uintptr_t address) {
    return dynamic_cast<Class*>(LivingForce::find(LivingForce::numberAt(reinterpret_cast<void*>(address)))) != nullptr;
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
        for (int i = 0; i < 3; i++)
            for (int j = i; j < 3; j++)
                if (j == i ? !(vectors[i][j] > 0) : vectors[i][j] != 0)
                    throw py::value_error(
                        "box must be in OpenMM's reduced form, (ax, 0, 0), (bx, by, 0), (cx, cy, cz) with positive ax, "
                        "by and cz");
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
    module.def("is_tabulated", [](uintptr_t address) { return isAt<TabulatedBondedForce>(address); });
    module.def("get_kind", [](uint64_t force) { return tabulated(force).getKind(); });
    module.def("get_particles_per_term", [](uint64_t force) { return tabulated(force).getNumParticlesPerTerm(); });
    module.def("add_table", [](uint64_t force, double start, double stop, const std::vector<double>& energies) {
        return tabulated(force).addTable(start, stop, energies);
    });
    module.def("set_table",
               [](uint64_t force, int index, double start, double stop, const std::vector<double>& energies) {
                   tabulated(force).setTableParameters(index, start, stop, energies);
               });
    module.def("count_tables", [](uint64_t force) { return tabulated(force).getTables().size(); });
    module.def("get_table", [](uint64_t force, int index) {
        const auto& table = itemAt(tabulated(force).getTables(), index, "table");
        return py::make_tuple(table.start, table.stop,
                              py::array_t<double>(table.energies.size(), table.energies.data()));
    });
    module.def("add_term", [](uint64_t force, const std::vector<int>& particles, int table) {
        return tabulated(force).addTerm(particles, table);
    });
    module.def("count_terms", [](uint64_t force) { return tabulated(force).getTerms().size(); });
    module.def("get_term", [](uint64_t force, int index) {
        const auto& term = itemAt(tabulated(force).getTerms(), index, "term");
        return py::make_tuple(term.particles, term.table);
    });
    module.def("set_tabulated_periodic",
               [](uint64_t force, bool periodic) { tabulated(force).setUsesPeriodicBoundaryConditions(periodic); });
}

void addPairForce(py::module_& module) {
    module.def("pair_force_xml", [](uintptr_t definition) {
        return toXml(PairForce(*reinterpret_cast<const OpenMM::CustomNonbondedForce*>(definition)));
    });
    module.def("is_pair_force", [](uintptr_t address) { return isAt<PairForce>(address); });
    module.def("get_pair_definition",
               [](uint64_t force) { return toXml(OpenMM::CustomNonbondedForce(pairForce(force))); });
    module.def("get_pair_replicas", [](uint64_t force) { return pairForce(force).getReplicas(); });
    module.def("set_pair_replicas", [](uint64_t force, int replicas) { pairForce(force).setReplicas(replicas); });
    module.def("get_pair_replica_energies", [](uint64_t force, uintptr_t context) {
        const auto energies = pairForce(force).getReplicaEnergies(*reinterpret_cast<OpenMM::Context*>(context));
        return py::array_t<double>(energies.size(), energies.data());
    });
}

}  // namespace

PYBIND11_MODULE(_openmmcg, module) {
    module.doc() =
        "The C++ side of openmmcg. A force is given by its number, of which `number_at` knows the one at "
        "int(force.this).";
    py::register_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer)
                std::rethrow_exception(pointer);
        } catch (const OpenMM::OpenMMException& error) {
            py::set_error(py::module_::import("openmm").attr("OpenMMException"), error.what());
        }
    });
    openmmcgRegister();
    module.def("number_at", [](uintptr_t address) { return LivingForce::numberAt(reinterpret_cast<void*>(address)); });
    module.def("require_living", [](uint64_t force, const std::string& name) { forceOf<OpenMM::Force>(force, name); });
    module.def("empty_cgforce_xml", [] { return toXml(CGForce()); });
    module.def("assign_cgforce", [](uint64_t force, uint64_t other) { cgForce(force) = cgForce(other); });
    module.def("assign_tabulated", [](uint64_t force, uint64_t other) { tabulated(force) = tabulated(other); });
    module.def("is_cgforce", [](uintptr_t address) { return isAt<CGForce>(address); });
    module.def("get_model", [](uint64_t force) {
        const auto& bytes = cgForce(force).getModel().getBytes();
        return py::bytes(bytes.data(), bytes.size());
    });
    module.def("set_model", [](uint64_t force, const py::bytes& bytes) {
        cgForce(force).setModel(std::make_shared<const ModelArchive>(toVector(bytes), "the model"));
    });
    module.def("set_model_file", [](uint64_t force, const std::string& path) {
        cgForce(force).setModel(std::make_shared<const ModelArchive>(ModelArchive::fromFile(path)));
    });
    module.def("has_compiled_network", [](uint64_t force) { return cgForce(force).getModel().hasCompiledNetwork(); });
    module.def("get_cutoff", [](uint64_t force) { return cgForce(force).getModel().getDescription().cutoff; });
    module.def("get_bead_types",
               [](uint64_t force) { return cgForce(force).getModel().getDescription().getTypeNames(); });
    module.def("get_engine", [](uint64_t force) { return cgForce(force).getEngine(); });
    module.def("set_engine", [](uint64_t force, const std::string& engine) { cgForce(force).setEngine(engine); });
    module.def("get_particles", [](uint64_t force) { return cgForce(force).getParticles(); });
    module.def("set_particles",
               [](uint64_t force, const std::vector<int>& particles) { cgForce(force).setParticles(particles); });
    module.def("get_types", [](uint64_t force) { return cgForce(force).getTypes(); });
    module.def("set_types", [](uint64_t force, const std::vector<int>& types) { cgForce(force).setTypes(types); });
    module.def("get_replicas", [](uint64_t force) { return cgForce(force).getReplicas(); });
    module.def("set_replicas", [](uint64_t force, int replicas) { cgForce(force).setReplicas(replicas); });
    module.def("get_replica_energies", [](uint64_t force, uintptr_t context) {
        const auto energies = cgForce(force).getReplicaEnergies(*reinterpret_cast<OpenMM::Context*>(context));
        return py::array_t<double>(energies.size(), energies.data());
    });
    module.def("profile", [](uint64_t force, uintptr_t context, int repeats) {
        py::list result;
        for (const KernelTime& time : cgForce(force).profile(*reinterpret_cast<OpenMM::Context*>(context), repeats))
            result.append(
                py::make_tuple(time.name, time.seconds, time.work.operations, time.work.memory, time.work.cache));
        return result;
    });
    module.def("set_periodic",
               [](uint64_t force, bool periodic) { cgForce(force).setUsesPeriodicBoundaryConditions(periodic); });
    module.def("get_global_parameters", [](uint64_t force) {
        std::map<std::string, double> parameters;
        for (const auto& parameter : cgForce(force).getGlobalParameters())
            parameters[parameter.name] = parameter.defaultValue;
        return parameters;
    });
    module.def("set_global_parameter_default", [](uint64_t force, const std::string& name, double value) {
        cgForce(force).setGlobalParameterDefault(name, value);
    });
    module.def("get_energy_parameter_derivatives",
               [](uint64_t force) { return cgForce(force).getEnergyParameterDerivatives(); });
    module.def("add_energy_parameter_derivative",
               [](uint64_t force, const std::string& name) { cgForce(force).addEnergyParameterDerivative(name); });
    module.def("update_parameters_in_context", [](uint64_t force, uintptr_t context) {
        cgForce(force).updateParametersInContext(*reinterpret_cast<OpenMM::Context*>(context));
    });
    module.def("neighbor_pairs", &neighborPairs, py::arg("positions"), py::arg("box").none(true), py::arg("cutoff"),
               py::arg("replicas") = 1);
    module.def("get_kernel_set", &getKernelSet);
    module.def("get_kernel_sets", &getKernelSets);
    addPairForce(module);
    addTabulatedBondedForce(module);
}
